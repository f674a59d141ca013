//! `/openapi.json`: OpenAPI 3.1, made from the table of routes.
//!
//! Not here: the routes (the parent).

use std::sync::{Arc, OnceLock};

use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::api::server::problem::ProblemBody;
use crate::api::server::route::{Access, Method, Route, RouteAnswer};

/// The description of a table of routes, made when first asked for.
pub(in crate::api) struct ApiDescription {
    routes: fn() -> Vec<Route>,
    made: OnceLock<Value>,
}

impl ApiDescription {
    pub(in crate::api) const fn new(routes: fn() -> Vec<Route>) -> Self {
        Self { routes, made: OnceLock::new() }
    }
}

/// `GET /openapi.json`.
pub(in crate::api) async fn get(
    Extension(description): Extension<Arc<ApiDescription>>,
) -> Response {
    let routes = description.routes;
    Json(description.made.get_or_init(|| document(&routes()))).into_response()
}

/// The makers of schemas: members that an answer always has are required in it, and members that a
/// request may leave out are not required there.
struct Generators {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Generators {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            requests: settings().into_generator(),
            answers: settings().for_serialize().into_generator(),
        }
    }

    fn definitions(&mut self) -> Map<String, Value> {
        let mut all = self.requests.take_definitions(true);
        all.extend(self.answers.take_definitions(true));
        all
    }
}

/// The description of these routes.
#[must_use]
pub fn document(routes: &[Route]) -> Value {
    let mut generators = Generators::new();
    let problem = generators.answers.subschema_for::<ProblemBody>().to_value();
    let mut paths = Map::new();
    for route in routes {
        for (number, prefix) in route.place.prefixes().iter().enumerate() {
            let operation = operation(route, number, &problem, &mut generators);
            let path = paths.entry(format!("{prefix}{}", route.path)).or_insert_with(|| json!({}));
            if let Some(path) = path.as_object_mut() {
                path.insert(method(route.method).to_owned(), operation);
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "walferry",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Keeps Elasticsearch consistent with PostgreSQL, with one audit row per change",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": {
                "type": "http", "scheme": "bearer",
                "description": "a token of walferry's own, or a JWT; needed where configured",
            } },
            "schemas": generators.definitions(),
        },
    })
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "get",
        Method::Post => "post",
    }
}

/// `number` counts the paths of a route: ids of operations differ.
fn operation(route: &Route, number: usize, problem: &Value, generators: &mut Generators) -> Value {
    let words: Vec<&str> = route
        .path
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && !matches!(*word, "api" | "v1"))
        .collect();
    let twin = if number == 0 { "" } else { "_original" };
    let done = match &route.answer {
        RouteAnswer::Json(schema) => {
            json!({ "application/json": { "schema": schema(&mut generators.answers) } })
        }
        RouteAnswer::Other { media_types, description } => {
            let schema = json!({ "schema": { "type": "string", "description": description } });
            media_types.iter().map(|name| ((*name).to_owned(), schema.clone())).collect()
        }
    };
    let mut operation = json!({
        "operationId": format!("{}_{}{twin}", method(route.method), words.join("_")),
        "summary": route.summary,
        "x-role": route.access.as_str(),
        "responses": {
            "200": { "description": "done", "content": done },
            "default": {
                "description": "it could not be done",
                "content": { "application/problem+json": { "schema": problem } },
            },
        },
    });
    if route.is_same_when_unavailable {
        let content = operation["responses"]["200"]["content"].clone();
        operation["responses"]["503"] =
            json!({ "description": "a part is not available", "content": content });
    }
    if route.access == Access::Public {
        operation["security"] = json!([]);
    }
    let parameters = parameters(route, &mut generators.requests);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = route.body {
        let schema = schema(&mut generators.requests).to_value();
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let schema = match name {
            "id" => json!({ "type": "integer", "format": "int64", "minimum": 1 }),
            "record_id" => json!({ "type": "string", "format": "uuid" }),
            _ => json!({ "type": "string" }),
        };
        Some(json!({ "name": name, "in": "path", "required": true, "schema": schema }))
    });
    let mut parameters: Vec<Value> = in_path.collect();
    let Some(query) = route.query else { return parameters };
    let schema = query(generator).to_value();
    // The schema itself, or a reference to it.
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    let schema = match name.and_then(|name| generator.definitions_mut().remove(name)) {
        Some(definition) => definition,
        None => schema,
    };
    let fields = schema["properties"].as_object().cloned().unwrap_or_default();
    for (name, mut schema) in fields {
        // A parameter is there or not; null is for members of bodies.
        let given = schema["type"].as_array().and_then(|types| types.first()).cloned();
        if let Some(given) = given {
            schema["type"] = given;
        }
        parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::routes;

    #[test]
    fn every_route_is_described_under_each_of_its_paths() {
        let document = document(&routes());
        for route in routes() {
            for prefix in route.place.prefixes() {
                let path = format!("{prefix}{}", route.path);
                let operation = &document["paths"][&path][method(route.method)];
                assert_eq!(operation["x-role"], route.access.as_str(), "{path}");
            }
        }
    }

    #[test]
    fn ids_differ_and_references_resolve() {
        let document = document(&routes());
        let text = document.to_string();
        let mut ids: Vec<&str> = text
            .split("\"operationId\":\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
