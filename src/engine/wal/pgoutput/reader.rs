//! Reads numbers and strings from bytes, their lengths checked. Pure.

/// The bytes are not a message of `pgoutput`.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("a message ends early")]
    EndsEarly,
    #[error("a message has {0} bytes too many")]
    TrailingBytes(usize),
    #[error("unknown message tag {0:#04x}")]
    UnknownTag(u8),
    #[error("unknown tuple tag {0:#04x}")]
    UnknownTuple(u8),
    #[error("unknown column tag {0:#04x}")]
    UnknownColumn(u8),
    #[error("a name is not UTF-8")]
    NotUtf8,
}

/// Reads big-endian numbers and strings from the front of a byte slice.
#[derive(Clone, Debug)]
pub struct ByteReader<'a> {
    bytes: &'a [u8],
}

impl<'a> ByteReader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`].
    #[inline]
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::EndsEarly)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::EndsEarly)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`].
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`].
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`].
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A signed integer.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`].
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string terminated by a zero byte.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`], [`DecodeError::NotUtf8`].
    pub fn name(&mut self) -> Result<&'a str, DecodeError> {
        let end = memchr::memchr(0, self.bytes).ok_or(DecodeError::EndsEarly)?;
        let text = self.bytes(end)?;
        self.u8()?;
        std::str::from_utf8(text).map_err(|_| DecodeError::NotUtf8)
    }
}
