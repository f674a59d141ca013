//! A cache of the categories of types, by OID.
//!
//! Built-in types are known without the catalog. User-defined types, and the row types of
//! catalogs, are read from `pg_type`.
//!
//! Not here: what a category means (`category`).

use std::sync::Arc;

use foldhash::HashMap;
use postgres_types::{Kind as TypeClass, Type};

use super::category::{Attribute, JsonCategory};

/// The lowest OID of a user-defined type (`FirstNormalObjectId` in PostgreSQL's `transam.h`).
const USER_OID_MIN: u32 = 16_384;
/// The nesting depth of types beyond which a type is opaque.
const DEPTH_MAX: usize = 32;

const UNKNOWN_TYPE: &str = "its type is no longer in the catalog, so the text was kept";
const CAST_TYPE: &str =
    "its type has a cast to json, which only the server can run, so the text was kept";

/// Categories by type OID.
#[derive(Debug)]
pub struct TypeCache {
    by_oid: HashMap<u32, Arc<JsonCategory>>,
}

impl Default for TypeCache {
    fn default() -> Self {
        Self::new()
    }
}

impl TypeCache {
    /// A cache of the built-in types that a column can have.
    #[must_use]
    pub fn new() -> Self {
        let mut by_oid = HashMap::default();
        for oid in 1..USER_OID_MIN {
            let Some(built_in) = Type::from_oid(oid) else { continue };
            if !matches!(built_in.kind(), TypeClass::Pseudo) {
                by_oid.insert(oid, Arc::new(JsonCategory::of_built_in(&built_in)));
            }
        }
        Self { by_oid }
    }

    /// The category of a type; `None` if it is not loaded.
    #[must_use]
    pub fn get(&self, type_oid: u32) -> Option<Arc<JsonCategory>> {
        self.by_oid.get(&type_oid).map(Arc::clone)
    }

    /// Reads the types `oids` and the types that they consist of from the catalog. All of `oids`
    /// are cached afterwards. A type that the catalog does not contain is
    /// [`JsonCategory::Opaque`].
    ///
    /// User-defined types are read again by each call, because the attributes of a composite type
    /// can change. Call it with the column types of every Relation message.
    ///
    /// # Errors
    /// The error of the query. The cache is unchanged then.
    pub async fn load(
        &mut self,
        client: &tokio_postgres::Client,
        oids: &[u32],
    ) -> Result<(), tokio_postgres::Error> {
        let mut found: HashMap<u32, CatalogType> = HashMap::default();
        let mut wanted = self.unknown(oids, &found);
        for _ in 0..DEPTH_MAX {
            if wanted.is_empty() {
                break;
            }
            let mut next = Vec::new();
            for row in client.query(DESCRIBE_TYPES, &[&wanted]).await? {
                let described = CatalogType::read(&row)?;
                next.extend(described.parts());
                found.insert(row.try_get("oid")?, described);
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

    /// The OIDs that must be read, without duplicates.
    fn unknown(&self, oids: &[u32], found: &HashMap<u32, CatalogType>) -> Vec<u32> {
        let is_unknown = |oid: &u32| {
            (*oid >= USER_OID_MIN || !self.by_oid.contains_key(oid)) && !found.contains_key(oid)
        };
        let mut unknown: Vec<u32> = oids.iter().copied().filter(is_unknown).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// The category of a type. Adds it, and those of the types that it consists of, to `loaded`.
    fn resolve(
        &self,
        oid: u32,
        found: &HashMap<u32, CatalogType>,
        loaded: &mut HashMap<u32, Arc<JsonCategory>>,
        depth: usize,
    ) -> Arc<JsonCategory> {
        if let Some(category) = loaded.get(&oid) {
            return Arc::clone(category);
        }
        let Some(described) = found.get(&oid).filter(|_| depth > 0) else {
            let known = if oid < USER_OID_MIN { self.get(oid) } else { None };
            let category = known.unwrap_or_else(|| Arc::new(JsonCategory::Opaque(UNKNOWN_TYPE)));
            loaded.insert(oid, Arc::clone(&category));
            return category;
        };
        let mut inner = |oid| self.resolve(oid, found, loaded, depth - 1);
        let category = match described {
            CatalogType::Domain { base } => inner(*base),
            CatalogType::Array { element, delimiter } => {
                Arc::new(JsonCategory::Array { element: inner(*element), delimiter: *delimiter })
            }
            CatalogType::Composite(attributes) => {
                let attribute = |a: &CatalogAttribute| Attribute::new(&a.name, inner(a.type_oid));
                Arc::new(JsonCategory::Composite(attributes.iter().map(attribute).collect()))
            }
            CatalogType::Text => Arc::new(JsonCategory::Text),
            CatalogType::Hstore => Arc::new(JsonCategory::Hstore),
            CatalogType::Cast => Arc::new(JsonCategory::Opaque(CAST_TYPE)),
        };
        loaded.insert(oid, Arc::clone(&category));
        category
    }
}

/// `$1`: type OIDs.
const DESCRIBE_TYPES: &str = include_str!("type_cache.sql");

/// A type as the catalog describes it.
enum CatalogType {
    Domain {
        base: u32,
    },
    Array {
        element: u32,
        delimiter: u8,
    },
    Composite(Vec<CatalogAttribute>),
    /// A type that `to_jsonb` represents by its text.
    Text,
    Hstore,
    /// A type with another cast function to `json`.
    Cast,
}

struct CatalogAttribute {
    name: String,
    type_oid: u32,
}

impl CatalogType {
    /// The type that a row of [`DESCRIBE_TYPES`] describes.
    fn read(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let class: String = row.try_get("class")?;
        Ok(match class.as_str() {
            "domain" => Self::Domain { base: row.try_get("base_oid")? },
            "array" => {
                let text: Option<String> = row.try_get("delimiter")?;
                let delimiter = text.and_then(|text| text.bytes().next()).unwrap_or(b',');
                Self::Array { element: row.try_get("element_oid")?, delimiter }
            }
            "composite" => {
                let names: Vec<String> = row.try_get("attribute_names")?;
                let oids: Vec<u32> = row.try_get("attribute_oids")?;
                let attributes = names.into_iter().zip(oids);
                let attribute = |(name, type_oid)| CatalogAttribute { name, type_oid };
                Self::Composite(attributes.map(attribute).collect())
            }
            "hstore" => Self::Hstore,
            "cast" => Self::Cast,
            _ => Self::Text,
        })
    }

    /// The OIDs of the types that it consists of.
    fn parts(&self) -> Vec<u32> {
        match self {
            Self::Domain { base: oid } | Self::Array { element: oid, .. } => vec![*oid],
            Self::Composite(attributes) => attributes.iter().map(|a| a.type_oid).collect(),
            Self::Text | Self::Hstore | Self::Cast => Vec::new(),
        }
    }
}
