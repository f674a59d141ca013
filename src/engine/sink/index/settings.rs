//! What an index must have for its documents to be what walferry sends: its ingest pipelines, which
//! are put back, and a mapping that asks for no routing.
//!
//! Not here: reading an index (`existing`).

use serde_json::{Value, json};

use super::error::IndexError;
use super::existing::ExistingIndex;
use super::response::accept;
use crate::engine::sink::client::{Client, Verb};

/// Elasticsearch's word for no pipeline.
const NONE: &str = "_none";

/// The ingest pipelines of an index: those of its definition, none otherwise. A template could bring
/// one, which would alter or drop documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipelines {
    default: String,
    last: String,
}

impl Default for Pipelines {
    fn default() -> Self {
        Self { default: NONE.to_owned(), last: NONE.to_owned() }
    }
}

impl Pipelines {
    /// Those of `settings`, in any of the forms that Elasticsearch takes.
    #[must_use]
    pub fn of(settings: &Value) -> Self {
        let named = |name: &str| {
            let forms =
                [&settings["index"][name], &settings[format!("index.{name}")], &settings[name]];
            forms.into_iter().find_map(Value::as_str).unwrap_or(NONE).to_owned()
        };
        Self { default: named("default_pipeline"), last: named("final_pipeline") }
    }

    /// As settings of an index.
    pub(super) fn settings(&self) -> Value {
        json!({ "index.default_pipeline": self.default, "index.final_pipeline": self.last })
    }

    /// Puts the pipelines of an index back where they are others.
    ///
    /// # Errors
    ///
    /// Elasticsearch does not respond, or refuses.
    pub(super) async fn put_back(
        &self,
        client: &Client,
        concrete: &str,
        found: &ExistingIndex,
    ) -> Result<(), IndexError> {
        let found = Self::of(&found.settings);
        if found == *self {
            return Ok(());
        }
        let path = format!("/{concrete}/_settings");
        let response = client.send(Verb::Put, &path, Some(&self.settings())).await?;
        accept(response, || format!("put the ingest pipelines of index {concrete} back"))?;
        tracing::warn!(
            event = "pipeline_put_back",
            index = concrete,
            default_pipeline = found.default,
            final_pipeline = found.last,
            "an ingest pipeline was set that would alter or drop documents; the index's own are \
             back"
        );
        Ok(())
    }
}

/// Refuses a mapping by which each document would need a routing.
///
/// # Errors
///
/// [`IndexError::RoutingRequired`].
pub(super) fn verify_routing(concrete: &str, mappings: &Value) -> Result<(), IndexError> {
    if mappings["_routing"]["required"].as_bool() == Some(true) {
        return Err(IndexError::RoutingRequired { index: concrete.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_are_none_unless_the_definition_names_one() {
        let check = |settings: Value, default: &str, last: &str| {
            let found = Pipelines::of(&settings);
            assert_eq!((found.default.as_str(), found.last.as_str()), (default, last));
        };
        check(json!({}), "_none", "_none");
        check(json!({ "index": { "default_pipeline": "a" } }), "a", "_none");
        check(json!({ "index.final_pipeline": "b" }), "_none", "b");
        check(json!({ "default_pipeline": "c" }), "c", "_none");
    }

    #[test]
    fn a_required_routing_is_refused() {
        let mappings = json!({ "_routing": { "required": true } });
        let error = verify_routing("a-000001", &mappings).unwrap_err().to_string();
        assert!(error.contains("a-000001") && error.contains("_routing"), "{error}");
        assert!(verify_routing("a-000001", &json!({})).is_ok());
    }
}
