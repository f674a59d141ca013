//! A row as the text of a JSON object, with the byte range of each column's value.
//!
//! The object equals `to_jsonb(row)` except for the order of keys and white space. Later stages
//! copy values out of the text by their ranges and do not parse it again.
//!
//! Not here: converting PostgreSQL's text format to JSON (`value`).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// The column names of a row. Rows of the same relation share one instance.
#[derive(Debug, PartialEq, Eq)]
pub struct Columns {
    names: Vec<String>,
}

impl Columns {
    /// Columns in the order of their values.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    /// The column names in the order of their values.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The index of a column's value; `None` if there is no such column.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }
}

/// A value up to this is kept in a row that is lightened.
const LIGHT_VALUE_BYTES_MAX: usize = 1 << 10;

/// A text that is not a JSON object. The field is the offset in bytes at which parsing stopped.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a row is not a JSON object (stopped at byte {0})")]
pub struct RowError(pub usize);

/// What is left out of a row whose text exceeds the largest that a row may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutValues {
    /// The bytes of the row's text in PostgreSQL.
    pub row_bytes: usize,
    /// The columns whose values are replaced by their size and hash, and the bytes of each.
    pub values: Vec<(usize, usize)>,
}

impl CutValues {
    /// Values up to this are kept, as keys and states are.
    pub const KEPT_BYTES_MAX: usize = 1 << 10;
    /// The largest that a row may have, unless it is set otherwise.
    pub const ROW_BYTES_MAX: usize = 64 << 20;
}

/// A row: the text of its JSON object, and the byte range of each value in it.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<Columns>,
    json: Bytes,
    /// Byte ranges in `json`, parallel to `columns`; `None` if the value is missing.
    spans: Vec<Option<Range<u32>>>,
    cut: Option<Arc<CutValues>>,
}

impl Row {
    /// A row from the text of its JSON object. `spans` are the byte ranges of the columns' values
    /// in `json`, with `None` for a value that the stream omitted.
    #[must_use]
    pub fn new(columns: Arc<Columns>, json: Bytes, spans: Vec<Option<Range<u32>>>) -> Self {
        debug_assert_eq!(columns.names.len(), spans.len());
        Self { columns, json, spans, cut: None }
    }

    /// The same row, of which large values were replaced. No document may be made of it.
    #[must_use]
    pub fn with_cut(self, cut: CutValues) -> Self {
        Self { cut: Some(Arc::new(cut)), ..self }
    }

    /// What was left out, if the row is larger than a row may be.
    #[must_use]
    pub fn cut(&self) -> Option<&CutValues> {
        self.cut.as_deref()
    }

    /// The bytes that the value of a column had before it was replaced; `None` if it was not.
    #[must_use]
    pub fn cut_bytes(&self, index: usize) -> Option<usize> {
        let cut = self.cut.as_ref()?;
        cut.values.iter().find(|(column, _)| *column == index).map(|(_, bytes)| *bytes)
    }

    /// The row without the values that were replaced, as other documents may embed it.
    #[must_use]
    pub fn without_cut_values(mut self) -> Self {
        for (column, _) in self.cut.take().iter().flat_map(|cut| &cut.values) {
            if let Some(span) = self.spans.get_mut(*column) {
                *span = None;
            }
        }
        self
    }

    /// A copy without the values over 1 KiB, which then count as not sent.
    #[must_use]
    pub fn lightened(&self) -> Self {
        let mut json = Vec::with_capacity(LIGHT_VALUE_BYTES_MAX);
        let mut spans = Vec::with_capacity(self.spans.len());
        for (index, name) in self.columns.names.iter().enumerate() {
            let Some(value) = self.at(index).filter(|v| v.len() <= LIGHT_VALUE_BYTES_MAX) else {
                spans.push(None);
                continue;
            };
            json.push(if json.is_empty() { b'{' } else { b',' });
            json.extend_from_slice(serde_json::Value::from(name.as_str()).to_string().as_bytes());
            json.push(b':');
            let start = json.len();
            json.extend_from_slice(value);
            spans.push(offset(start).ok().zip(offset(json.len()).ok()).map(|(from, to)| from..to));
        }
        json.extend_from_slice(if json.is_empty() { b"{}" } else { b"}" });
        Self { columns: Arc::clone(&self.columns), json: Bytes::from(json), spans, cut: None }
    }

    /// Parses the text of `to_jsonb(row)`. The row shares the columns `like` if its keys are the
    /// same, in the same order.
    ///
    /// # Errors
    /// [`RowError`] if the text is not a JSON object.
    pub fn parse(text: &str, like: Option<&Arc<Columns>>) -> Result<Self, RowError> {
        let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
        let object = scanner.object()?;
        let columns = match like {
            Some(known) if known.names == object.names => Arc::clone(known),
            _ => Arc::new(Columns::new(object.names)),
        };
        let json = Bytes::copy_from_slice(text.as_bytes());
        Ok(Self { columns, json, spans: object.spans, cut: None })
    }

    /// The column names.
    #[must_use]
    pub fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    /// The text of the JSON object.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The JSON text of a column's value; `None` if the column does not exist or has no value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.at(self.columns.index_of(name)?)
    }

    /// The JSON text of the value at an index of [`Columns`]; `None` if there is no value.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&[u8]> {
        let span = self.spans.get(index)?.as_ref()?;
        self.json.get(span.start as usize..span.end as usize)
    }

    /// True if no value is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.spans.iter().all(Option::is_some)
    }

    /// The value as plain text: a string without its quotes and escapes, any other value as its
    /// JSON text. `None` if the value is missing or null.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.text_at(self.columns.index_of(name)?).map(Cow::into_owned)
    }

    /// As [`Row::text`], by an index of [`Columns`]. Only a string with escapes is copied.
    #[must_use]
    pub fn text_at(&self, index: usize) -> Option<Cow<'_, str>> {
        match self.at(index)? {
            b"null" => None,
            [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
                simdutf8::basic::from_utf8(inner).ok().map(Cow::Borrowed)
            }
            json @ [b'"', ..] => serde_json::from_slice(json).ok().map(Cow::Owned),
            json => simdutf8::basic::from_utf8(json).ok().map(Cow::Borrowed),
        }
    }

    /// The size in memory in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.json.len() + self.spans.len() * size_of::<Option<Range<u32>>>()
    }
}

/// Finds the keys and the values of one JSON object. Nested values are skipped, not parsed.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The keys of an object and the byte ranges of their values.
#[derive(Default)]
struct ScannedObject {
    names: Vec<String>,
    spans: Vec<Option<Range<u32>>>,
}

impl Scanner<'_> {
    fn object(&mut self) -> Result<ScannedObject, RowError> {
        let mut object = ScannedObject::default();
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return Ok(object);
        }
        loop {
            let key_span = self.value()?;
            let key = self.bytes.get(key_span).unwrap_or_default();
            object.names.push(serde_json::from_slice(key).map_err(|_| RowError(self.at))?);
            self.expect(b':')?;
            let span = self.value()?;
            object.spans.push(Some(offset(span.start)?..offset(span.end)?));
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => return Ok(object),
                _ => return Err(RowError(self.at)),
            }
        }
    }

    /// The byte range of the next value. Advances past it.
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

    /// Advances from the opening quote of a string to the closing one.
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

    /// The next byte that is not white space. Advances to it.
    fn peek(&mut self) -> Result<u8, RowError> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(RowError(self.at))
    }

    /// Advances past `byte`, which must be the next byte that is not white space.
    fn expect(&mut self, byte: u8) -> Result<(), RowError> {
        if self.peek()? != byte {
            return Err(RowError(self.at));
        }
        self.at += 1;
        Ok(())
    }
}

/// An offset in a row's text as 32 bits: a row is smaller than 4 GiB.
fn offset(bytes: usize) -> Result<u32, RowError> {
    u32::try_from(bytes).map_err(|_| RowError(bytes))
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
    fn values_keep_their_text() {
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
    fn a_text_other_than_an_object_is_an_error() {
        for text in ["", "[", "1", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1"#, r#"{"a":"x}"#] {
            assert!(Row::parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn text_has_no_quotes_and_null_has_no_text() {
        let row = Row::parse(r#"{"a": "x\u0041", "b": null, "c": 7, "e": "ş"}"#, None).unwrap();
        assert_eq!(row.text("a").as_deref(), Some("xA"));
        assert_eq!(row.text("e").as_deref(), Some("ş"));
        assert_eq!(row.text("b"), None);
        assert_eq!(row.text("c").as_deref(), Some("7"));
        assert_eq!(row.text("d"), None);
    }

    #[test]
    fn a_lightened_row_lacks_its_large_values() {
        let long = "x".repeat(LIGHT_VALUE_BYTES_MAX);
        let row = Row::parse(&format!(r#"{{"a":1,"b":"{long}","c":"y"}}"#), None).unwrap();
        let light = row.lightened();
        assert_eq!(light.json().as_ref(), br#"{"a":1,"c":"y"}"#);
        assert_eq!(
            (light.get("a"), light.get("b"), light.get("c")),
            (Some(&b"1"[..]), None, Some(&br#""y""#[..]))
        );
        assert_eq!(
            Row::parse(&format!(r#"{{"b":"{long}"}}"#), None).unwrap().lightened().json().as_ref(),
            b"{}"
        );
    }

    #[test]
    fn rows_with_the_same_keys_share_their_columns() {
        let first = Row::parse(r#"{"a":1}"#, None).unwrap();
        let second = Row::parse(r#"{"a":2}"#, Some(first.columns())).unwrap();
        assert!(Arc::ptr_eq(first.columns(), second.columns()));
    }
}
