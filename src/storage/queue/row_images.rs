//! The rows in a job's `change_data`, as they were before and after the change. Pure.
//!
//! Not here: writing them (`copy`), and what a job is besides (`claim`).

use std::sync::Arc;

use crate::change::{Columns, Operation, Row};

/// The rows in a job's `change_data`.
#[derive(Debug, Default)]
pub(in crate::storage) struct Rows {
    pub(in crate::storage) old: Option<Row>,
    pub(in crate::storage) new: Option<Row>,
}

impl Rows {
    /// `None` where the text has not the shape that the operation calls for, as after an
    /// operator's edit.
    pub(in crate::storage) fn parse(
        operation: Option<Operation>,
        text: &str,
        like: &mut [Option<Arc<Columns>>; 2],
    ) -> Option<Self> {
        let mut row = |text: &str, which: usize| {
            let row = Row::parse(text, like[which].as_ref()).ok()?;
            like[which] = Some(Arc::clone(row.columns()));
            Some(row)
        };
        match operation? {
            Operation::Insert => Some(Self { old: None, new: Some(row(text, 1)?) }),
            Operation::Delete => Some(Self { old: Some(row(text, 0)?), new: None }),
            Operation::Truncate => Some(Self::default()),
            Operation::Update => {
                let both = Row::parse(text, None).ok()?;
                let part = |name| std::str::from_utf8(both.get(name)?).ok();
                let old = match part("old") {
                    None | Some("null") => None,
                    Some(old) => Some(row(old, 0)?),
                };
                Some(Self { old, new: Some(row(part("new")?, 1)?) })
            }
        }
    }
}
