//! What is known of each type: how the text of its values becomes JSON.
//!
//! Follows `json_categorize_type` of PostgreSQL's `jsonfuncs.c`: domains are looked through;
//! six number types are numbers (`oid` is not); true arrays and row types nest; a user's type
//! with a cast function to `json` is whatever that function returns; all else is a string.
//!
//! Not here: the conversion itself.

use std::sync::Arc;

use foldhash::HashMap;
use postgres_types::{Kind as Class, Type};

/// Types below this OID come with PostgreSQL (`FirstNormalObjectId`).
const USER_OID_MIN: u32 = 16_384;
/// How deep types may nest in types before the text of the innermost is taken as a string.
const DEPTH_MAX: usize = 32;

/// How the text of a type's values becomes JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `t` and `f`.
    Bool,
    /// A JSON number; a string where it is not one (`NaN`, `Infinity`).
    Number,
    /// A string as it stands.
    Text,
    /// `timestamp`.
    Timestamp,
    /// `timestamp with time zone`.
    Timestamptz,
    /// `json`: any JSON text, which `jsonb` normalises.
    Json,
    /// `jsonb`: JSON text as PostgreSQL prints it.
    Jsonb,
    /// A true array.
    Array {
        /// Of its elements.
        element: Arc<Self>,
        /// The element type's `typdelim`.
        delimiter: u8,
    },
    /// `int2vector`, `oidvector`: elements between spaces.
    Vector(Arc<Self>),
    /// A row type; without its dropped attributes.
    Composite(Box<[Attribute]>),
    /// `hstore`, whose cast to `json` gives an object of strings.
    Hstore,
    /// What `to_jsonb` gives cannot be known from the text. The text is kept as a string, and
    /// each value is reported with this reason.
    Opaque(&'static str),
}

/// An attribute of a row type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name as a JSON string, and a colon.
    pub key: Box<[u8]>,
    pub kind: Arc<Kind>,
}

impl Kind {
    /// Whether the JSON of every value that `jsonb` accepts is what `to_jsonb` gives. Where it
    /// is not, only the server can tell, so the row has to be read back.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        match self {
            Self::Opaque(_) => false,
            Self::Array { element, .. } | Self::Vector(element) => element.is_exact(),
            Self::Composite(attributes) => attributes.iter().all(|a| a.kind.is_exact()),
            _ => true,
        }
    }
}

/// Kinds by type OID. Built-in types are known from the start; a user's types, and row types of
/// catalogs, after [`Kinds::load`].
#[derive(Debug)]
pub struct Kinds {
    by_oid: HashMap<u32, Arc<Kind>>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self::new()
    }
}

impl Kinds {
    /// Knows all built-in types that a column can have.
    #[must_use]
    pub fn new() -> Self {
        let mut kinds = Self { by_oid: HashMap::default() };
        for oid in 1..USER_OID_MIN {
            let Some(built_in) = Type::from_oid(oid) else { continue };
            if !matches!(built_in.kind(), Class::Pseudo) {
                let kind = Arc::new(built_in_kind(&built_in));
                kinds.by_oid.insert(oid, kind);
            }
        }
        kinds
    }

    /// The kind of a type; `None` until it is loaded.
    #[must_use]
    pub fn get(&self, type_oid: u32) -> Option<Arc<Kind>> {
        self.by_oid.get(&type_oid).map(Arc::clone)
    }

    /// Reads the types `oids` and all that they consist of from the catalog. Each of them is
    /// known afterwards; a type that the catalog no longer has is [`Kind::Opaque`].
    ///
    /// A user's types are read anew each time, since a row type's attributes may have changed;
    /// call it for the columns of every relation message.
    ///
    /// # Errors
    /// What the connection returns; the kinds stay as they were.
    pub async fn load(
        &mut self,
        client: &tokio_postgres::Client,
        oids: &[u32],
    ) -> Result<(), tokio_postgres::Error> {
        let mut found: HashMap<u32, Shape> = HashMap::default();
        let mut wanted = self.unknown(oids, &found);
        for _ in 0..DEPTH_MAX {
            if wanted.is_empty() {
                break;
            }
            let mut next = Vec::new();
            for row in client.query(DESCRIBE_TYPES, &[&wanted]).await? {
                let shape = Shape::read(&row)?;
                next.extend(shape.parts());
                found.insert(row.try_get(0)?, shape);
            }
            wanted = self.unknown(&next, &found);
        }
        let mut loaded = HashMap::default();
        for &oid in oids {
            self.resolve(oid, &found, &mut loaded, DEPTH_MAX);
        }
        self.by_oid.extend(loaded);
        Ok(())
    }

    /// The OIDs that have to be read, each once.
    fn unknown(&self, oids: &[u32], found: &HashMap<u32, Shape>) -> Vec<u32> {
        let is_unknown = |oid: &u32| {
            (*oid >= USER_OID_MIN || !self.by_oid.contains_key(oid)) && !found.contains_key(oid)
        };
        let mut unknown: Vec<u32> = oids.iter().copied().filter(is_unknown).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    fn resolve(
        &self,
        oid: u32,
        found: &HashMap<u32, Shape>,
        loaded: &mut HashMap<u32, Arc<Kind>>,
        depth: usize,
    ) -> Arc<Kind> {
        if let Some(kind) = loaded.get(&oid) {
            return Arc::clone(kind);
        }
        let Some(shape) = found.get(&oid).filter(|_| depth > 0) else {
            let known = if oid < USER_OID_MIN { self.get(oid) } else { None };
            let kind = known.unwrap_or_else(|| Arc::new(Kind::Opaque(UNKNOWN_TYPE)));
            loaded.insert(oid, Arc::clone(&kind));
            return kind;
        };
        let mut inner = |oid| self.resolve(oid, found, loaded, depth - 1);
        let kind = match shape {
            Shape::Same(base) => inner(*base),
            Shape::Array { element, delimiter } => {
                Arc::new(Kind::Array { element: inner(*element), delimiter: *delimiter })
            }
            Shape::Composite(attributes) => {
                let attribute = |(name, oid): &(String, u32)| Attribute::new(name, inner(*oid));
                Arc::new(Kind::Composite(attributes.iter().map(attribute).collect()))
            }
            Shape::Text => Arc::new(Kind::Text),
            Shape::Hstore => Arc::new(Kind::Hstore),
            Shape::Cast => Arc::new(Kind::Opaque(CAST_TYPE)),
        };
        loaded.insert(oid, Arc::clone(&kind));
        kind
    }
}

impl Attribute {
    fn new(name: &str, kind: Arc<Kind>) -> Self {
        let mut key = Vec::new();
        super::string::write_string(name.as_bytes(), &mut key);
        key.push(b':');
        Self { key: key.into_boxed_slice(), kind }
    }
}

const UNKNOWN_TYPE: &str = "its type is no longer in the catalog, so the text was kept";
const CAST_TYPE: &str =
    "its type has a cast to json, which only the server can run, so the text was kept";

/// `$1`: OIDs. Columns: oid, class, base type, element type, delimiter, attribute names and
/// types.
const DESCRIBE_TYPES: &str = "
    select t.oid,
           case
               when t.typtype = 'd' then 'domain'
               when t.typtype = 'c' then 'composite'
               when t.typelem <> 0 and t.typlen = -1
                   and t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc then 'array'
               when k.castfunc is null then 'text'
               when p.proname = 'hstore_to_json' and t.typname = 'hstore' then 'hstore'
               else 'cast'
           end,
           t.typbasetype,
           t.typelem,
           (select e.typdelim::text from pg_catalog.pg_type e where e.oid = t.typelem),
           array(select a.attname::text from pg_catalog.pg_attribute a
                 where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
                 order by a.attnum),
           array(select a.atttypid from pg_catalog.pg_attribute a
                 where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
                 order by a.attnum)
    from pg_catalog.pg_type t
    left join pg_catalog.pg_cast k
        on k.castsource = t.oid and k.casttarget = 'pg_catalog.json'::pg_catalog.regtype
        and k.castmethod = 'f' and t.oid >= 16384
    left join pg_catalog.pg_proc p on p.oid = k.castfunc
    where t.oid = any($1)";

/// A type as the catalog describes it.
enum Shape {
    /// A domain over this type.
    Same(u32),
    Array {
        element: u32,
        delimiter: u8,
    },
    Composite(Vec<(String, u32)>),
    Text,
    Hstore,
    Cast,
}

impl Shape {
    fn read(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let class: String = row.try_get(1)?;
        Ok(match class.as_str() {
            "domain" => Self::Same(row.try_get(2)?),
            "array" => {
                let delimiter: Option<String> = row.try_get(4)?;
                let delimiter = delimiter.and_then(|text| text.bytes().next());
                Self::Array { element: row.try_get(3)?, delimiter: delimiter.unwrap_or(b',') }
            }
            "composite" => {
                let (names, oids): (Vec<String>, Vec<u32>) = (row.try_get(5)?, row.try_get(6)?);
                Self::Composite(names.into_iter().zip(oids).collect())
            }
            "hstore" => Self::Hstore,
            "cast" => Self::Cast,
            _ => Self::Text,
        })
    }

    /// The types that it consists of.
    fn parts(&self) -> Vec<u32> {
        match self {
            Self::Same(oid) | Self::Array { element: oid, .. } => vec![*oid],
            Self::Composite(attributes) => attributes.iter().map(|(_, oid)| *oid).collect(),
            Self::Text | Self::Hstore | Self::Cast => Vec::new(),
        }
    }
}

/// The kind of a type that comes with PostgreSQL.
fn built_in_kind(built_in: &Type) -> Kind {
    match *built_in {
        Type::BOOL => Kind::Bool,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
            Kind::Number
        }
        Type::TIMESTAMP => Kind::Timestamp,
        Type::TIMESTAMPTZ => Kind::Timestamptz,
        Type::JSON => Kind::Json,
        Type::JSONB => Kind::Jsonb,
        Type::INT2_VECTOR => Kind::Vector(Arc::new(Kind::Number)),
        Type::OID_VECTOR => Kind::Vector(Arc::new(Kind::Text)),
        _ => match built_in.kind() {
            Class::Array(element) => Kind::Array {
                delimiter: if *element == Type::BOX { b';' } else { b',' },
                element: Arc::new(built_in_kind(element)),
            },
            _ => Kind::Text,
        },
    }
}
