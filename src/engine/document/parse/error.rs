//! Why a definition of documents cannot be used.

/// The definition of documents is not valid.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    #[error("the definition of documents is not understood")]
    Syntax(#[from] toml::de::Error),
    #[error("{object} names the table {name:?}, which no [[table]] declares (declared: {known})")]
    UnknownTable { object: String, name: String, known: String },
    #[error("[[table]] {name:?} has only one of `parent` and `label`; a path needs both")]
    HalfTree { name: String },
    #[error("{object} needs `parent` and `label` on the [[table]] {name:?}")]
    NoTree { object: String, name: String },
    #[error(
        "index name {name:?} is refused by Elasticsearch; use at most 200 bytes of lower-case \
         letters, digits, _ and -, and begin with a letter or digit"
    )]
    IndexName { name: String },
    #[error(
        "field {field:?} of index {index:?} must have exactly one of column, constant, geo, embed, path, suggest"
    )]
    FieldValue { index: String, field: String },
    #[error("field {field:?} of index {index:?} has weight {weight}; the most is {}", i32::MAX)]
    Weight { index: String, field: String, weight: u32 },
    #[error(
        "include.{column} of index {index:?} must be a list of one or more texts, numbers or booleans"
    )]
    Include { index: String, column: String },
    #[error(
        "index {index:?} has several sources; each needs a `filter`, and an `id_prefix` that no \
         other one begins with"
    )]
    Ambiguous { index: String },
    #[error(
        "filter {field} = {term:?} of index {index:?} names no field of its source with that \
         constant; add one"
    )]
    Filter { index: String, field: String, term: String },
    #[error("{what} {name:?} is declared twice{scope}")]
    Twice { what: &'static str, name: String, scope: String },
    #[error("the definition declares no {0}")]
    Empty(&'static str),
    #[error("too many {0}; at most 65535")]
    TooMany(&'static str),
}
