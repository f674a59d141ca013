//! How `to_jsonb` represents the values of a type. Pure.
//!
//! The categories follow `json_categorize_type` in PostgreSQL's `jsonfuncs.c`: a domain has the
//! category of its base type; six numeric types are numbers (`oid` is not one of them); arrays and
//! composite types are nested; a user-defined type with a cast function to `json` is converted by
//! that function; the values of all other types are strings.
//!
//! Not here: user-defined types, which the catalog describes (`type_cache`), and the conversion.

use std::sync::Arc;

use postgres_types::{Kind as TypeClass, Type};

/// The category of a type: how the text of its values is converted to JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonCategory {
    /// `boolean`: `t` or `f`.
    Bool,
    /// A JSON number. `NaN` and the infinities are strings.
    Number,
    /// A string.
    Text,
    /// `timestamp without time zone`.
    Timestamp,
    /// `timestamp with time zone`.
    Timestamptz,
    /// `json`: JSON text, which `jsonb` normalises.
    Json,
    /// `jsonb`: JSON text in the form that `jsonb_out` prints.
    Jsonb,
    /// An array type.
    Array {
        /// The category of the elements.
        element: Arc<Self>,
        /// The element type's `typdelim`.
        delimiter: u8,
    },
    /// `int2vector` or `oidvector`: elements separated by single spaces.
    Vector(Arc<Self>),
    /// A composite type, without its dropped attributes.
    Composite(Box<[Attribute]>),
    /// `hstore`. Its cast to `json` returns an object of strings.
    Hstore,
    /// A type with a representation that cannot be derived from the text. The text is written as
    /// a string, and this reason is reported for each value.
    Opaque(&'static str),
}

/// An attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The attribute's name as a JSON string, followed by a colon.
    pub key: Box<[u8]>,
    /// The category of the attribute's type.
    pub category: Arc<JsonCategory>,
}

impl Attribute {
    /// An attribute by its name in the catalog.
    pub(super) fn new(name: &str, category: Arc<JsonCategory>) -> Self {
        let mut key = Vec::new();
        super::string::write_string(name.as_bytes(), &mut key);
        key.push(b':');
        Self { key: key.into_boxed_slice(), category }
    }
}

impl JsonCategory {
    /// Whether the type, or one that it consists of, has attributes, which can be altered.
    #[must_use]
    pub fn is_alterable(&self) -> bool {
        match self {
            Self::Composite(_) => true,
            Self::Array { element, .. } => element.is_alterable(),
            _ => false,
        }
    }

    /// True if the conversion equals `to_jsonb` for every value that `jsonb` accepts. Otherwise
    /// only the server can convert the value, and the row is read from the table.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        match self {
            Self::Opaque(_) => false,
            Self::Array { element, .. } | Self::Vector(element) => element.is_exact(),
            Self::Composite(attributes) => attributes.iter().all(|a| a.category.is_exact()),
            _ => true,
        }
    }

    /// The category of a built-in type.
    pub(super) fn of_built_in(built_in: &Type) -> Self {
        match *built_in {
            Type::BOOL => Self::Bool,
            Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
                Self::Number
            }
            Type::TIMESTAMP => Self::Timestamp,
            Type::TIMESTAMPTZ => Self::Timestamptz,
            Type::JSON => Self::Json,
            Type::JSONB => Self::Jsonb,
            Type::INT2_VECTOR => Self::Vector(Arc::new(Self::Number)),
            Type::OID_VECTOR => Self::Vector(Arc::new(Self::Text)),
            _ => match built_in.kind() {
                TypeClass::Array(element) => Self::Array {
                    delimiter: if *element == Type::BOX { b';' } else { b',' },
                    element: Arc::new(Self::of_built_in(element)),
                },
                _ => Self::Text,
            },
        }
    }
}
