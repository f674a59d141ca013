//! One row as a JSON object, with the span of each value.
//!
//! The object's text is what `to_jsonb(row)` would print, up to the order of keys and white
//! space. Stages cut values out of it and never parse it again.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// The column names of a row, shared by all rows of the same shape.
#[derive(Debug, PartialEq, Eq)]
pub struct Columns {
    names: Vec<String>,
}

impl Columns {
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of a column among the row's values.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }
}

/// A text that was to be a row is not one flat JSON object.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a row is not a JSON object (stopped at byte {0})")]
pub struct RowError(pub usize);

/// A row: its JSON object and where each value stands in it.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<Columns>,
    json: Bytes,
    /// Parallel to `columns`; `None` where the stream did not carry the value.
    spans: Vec<Option<Range<u32>>>,
}

impl Row {
    /// A row from an object already written, with the span of each column's value in it.
    #[must_use]
    pub fn new(columns: Arc<Columns>, json: Bytes, spans: Vec<Option<Range<u32>>>) -> Self {
        debug_assert_eq!(columns.names.len(), spans.len());
        Self { columns, json, spans }
    }

    /// A row from the text of `to_jsonb(row)`. `like` is reused where its names are the same.
    ///
    /// # Errors
    /// [`RowError`] where the text is not a JSON object.
    pub fn parse(text: &str, like: Option<&Arc<Columns>>) -> Result<Self, RowError> {
        let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
        let (names, spans) = scanner.object()?;
        let columns = match like {
            Some(known) if known.names == names => Arc::clone(known),
            _ => Arc::new(Columns::new(names)),
        };
        Ok(Self { columns, json: Bytes::copy_from_slice(text.as_bytes()), spans })
    }

    #[must_use]
    pub fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    /// The whole object's text.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The JSON text of a column's value; `None` where there is no such column or value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.at(self.columns.index_of(name)?)
    }

    /// The JSON text of the value at a place in [`Columns`].
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&[u8]> {
        let span = self.spans.get(index)?.as_ref()?;
        self.json.get(span.start as usize..span.end as usize)
    }

    /// Whether every column has its value.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.spans.iter().all(Option::is_some)
    }

    /// The value as plain text: a string without its quotes and escapes, anything else as it
    /// stands. `None` for a missing value and for JSON null.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.text_at(self.columns.index_of(name)?).map(Cow::into_owned)
    }

    /// [`Row::text`] of the value at a place in [`Columns`]; copies only what has escapes.
    #[must_use]
    pub fn text_at(&self, index: usize) -> Option<Cow<'_, str>> {
        match self.at(index)? {
            b"null" => None,
            [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
                std::str::from_utf8(inner).ok().map(Cow::Borrowed)
            }
            json @ [b'"', ..] => serde_json::from_slice(json).ok().map(Cow::Owned),
            json => std::str::from_utf8(json).ok().map(Cow::Borrowed),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.json.len() + self.spans.len() * size_of::<Option<Range<u32>>>()
    }
}

/// Finds keys and values of one object, without looking into the values.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Found = (Vec<String>, Vec<Option<Range<u32>>>);

impl Scanner<'_> {
    fn object(&mut self) -> Result<Found, RowError> {
        let (mut names, mut spans) = (Vec::new(), Vec::new());
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return Ok((names, spans));
        }
        loop {
            let key = self.value()?;
            let key = self.bytes.get(key).unwrap_or_default();
            names.push(serde_json::from_slice(key).map_err(|_| RowError(self.at))?);
            self.expect(b':')?;
            let span = self.value()?;
            let fits = |n| u32::try_from(n).map_err(|_| RowError(n));
            spans.push(Some(fits(span.start)?..fits(span.end)?));
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => return Ok((names, spans)),
                _ => return Err(RowError(self.at)),
            }
        }
    }

    /// The span of one value, which may nest.
    fn value(&mut self) -> Result<Range<usize>, RowError> {
        self.peek()?;
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => self.string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' | b':' if depth == 0 => break,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 && matches!(byte, b'"' | b'}' | b']') {
                break;
            }
        }
        let mut end = self.at;
        while end > start && self.bytes[end - 1].is_ascii_whitespace() {
            end -= 1;
        }
        if end == start { Err(RowError(start)) } else { Ok(start..end) }
    }

    /// From an opening quote to the closing one.
    fn string(&mut self) -> Result<(), RowError> {
        loop {
            self.at += 1;
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(next) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(RowError(self.at));
            };
            self.at += next;
            if self.bytes[self.at] == b'"' {
                return Ok(());
            }
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Result<u8, RowError> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(RowError(self.at))
    }

    fn expect(&mut self, byte: u8) -> Result<(), RowError> {
        if self.peek()? != byte {
            return Err(RowError(self.at));
        }
        self.at += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let row = Row::parse(text, None).unwrap();
        let found: Vec<(&str, &str)> = row
            .columns()
            .names()
            .iter()
            .enumerate()
            .map(|(i, name)| (name.as_str(), std::str::from_utf8(row.at(i).unwrap()).unwrap()))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn values_are_cut_out_as_they_stand() {
        check("{}", &[]);
        check(r#"{"a": 1}"#, &[("a", "1")]);
        check(
            r#"{"a": 1, "b": "x,\"}y", "c": null}"#,
            &[("a", "1"), ("b", r#""x,\"}y""#), ("c", "null")],
        );
        check(
            r#"{"a":{"b":[1,{"c":"]"}]},"d":[]}"#,
            &[("a", r#"{"b":[1,{"c":"]"}]}"#), ("d", "[]")],
        );
        check(r#"{"q\"k": "ş\\"}"#, &[("q\"k", r#""ş\\""#)]);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["", "[", "1", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1"#, r#"{"a":"x}"#] {
            assert!(Row::parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn text_is_without_quotes_and_null_is_nothing() {
        let row = Row::parse(r#"{"a": "x\u0041", "b": null, "c": 7, "e": "ş"}"#, None).unwrap();
        assert_eq!(row.text("a").as_deref(), Some("xA"));
        assert_eq!(row.text("e").as_deref(), Some("ş"));
        assert_eq!(row.text("b"), None);
        assert_eq!(row.text("c").as_deref(), Some("7"));
        assert_eq!(row.text("d"), None);
    }

    #[test]
    fn rows_of_one_shape_share_their_columns() {
        let first = Row::parse(r#"{"a":1}"#, None).unwrap();
        let second = Row::parse(r#"{"a":2}"#, Some(first.columns())).unwrap();
        assert!(Arc::ptr_eq(first.columns(), second.columns()));
    }
}
