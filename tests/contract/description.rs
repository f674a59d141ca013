//! Routes and the members of what they take and answer, read from the OpenAPI description.
//!
//! Members are listed below their route, with references resolved. A route that takes and answers the same as its
//! twin of the other prefix is one line.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Routes with method and role: `GET /livez public`.
pub(crate) fn routes(description: &Value) -> BTreeSet<String> {
    let described = operations(description);
    let role = |operation: &Value| operation["x-role"].as_str().unwrap_or("no role").to_owned();
    described.map(|(route, operation)| format!("{route} {}", role(operation))).collect()
}

/// Parameters, members of bodies and of answers, with their types.
pub(crate) fn members(description: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut by_route = BTreeMap::new();
    for (route, operation) in operations(description) {
        let mut reader = Reader { description, lines: BTreeSet::new() };
        for parameter in list(&operation["parameters"]) {
            let name = format!("{} {}", text(&parameter["in"]), text(&parameter["name"]));
            reader.add(&name, &parameter["schema"], parameter["required"] == true);
        }
        reader.add_content("body", &operation["requestBody"]["content"]);
        reader.add_content("answer", &operation["responses"]["200"]["content"]);
        found.insert(format!("{route}: operationId {}", text(&operation["operationId"])));
        by_route.insert(route, reader.lines);
        let mut errors = Reader { description, lines: BTreeSet::new() };
        errors.add_content("answer", &operation["responses"]["default"]["content"]);
        found.extend(errors.lines.into_iter().map(|line| format!("any error: {line}")));
    }
    for (route, lines) in &by_route {
        let twin = route.replace("/ai-suggestions/", "/");
        if twin != *route && by_route.get(&twin) == Some(lines) {
            found.insert(format!("{route}: as {twin}"));
        } else {
            found.extend(lines.iter().map(|line| format!("{route}: {line}")));
        }
    }
    found
}

/// What the routes do, in the description's words.
pub(crate) fn summaries(description: &Value) -> BTreeSet<String> {
    operations(description).map(|(_, operation)| text(&operation["summary"]).to_owned()).collect()
}

/// The words of the one enumeration below `path` of the answer of `GET …/queue/health`.
pub(crate) fn health_words(description: &Value) -> Vec<String> {
    let start = "GET /api/v1/queue/health: answer.details[].code = ";
    let members = members(description);
    let words = members.iter().filter_map(|line| line.strip_prefix(start));
    words.map(|word| word.trim_matches('"').to_owned()).collect()
}

/// `GET /path` and its description, for each route.
pub(crate) fn operations(description: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = members_of(&description["paths"]);
    paths.flat_map(|(path, methods)| {
        members_of(methods).map(move |(method, operation)| {
            (format!("{} {path}", method.to_uppercase()), operation)
        })
    })
}

pub(crate) fn members_of(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Collects the members of a schema.
struct Reader<'a> {
    description: &'a Value,
    lines: BTreeSet<String>,
}

impl Reader<'_> {
    fn add_content(&mut self, name: &str, content: &Value) {
        for (kind, described) in members_of(content) {
            self.lines.insert(format!("{name} is {kind}"));
            self.add(name, &described["schema"], true);
        }
    }

    fn add(&mut self, path: &str, schema: &Value, required: bool) {
        let schema = self.resolved(schema).clone();
        let optional = if required { "" } else { ", optional" };
        self.lines.insert(format!("{path}: {}{optional}", self.kind(&schema)));
        self.add_parts(path, &schema);
    }

    fn add_parts(&mut self, path: &str, schema: &Value) {
        let schema = self.resolved(schema).clone();
        for word in list(&schema["enum"]).chain(schema.get("const")) {
            self.lines.insert(format!("{path} = {word}"));
        }
        let required: Vec<&str> = list(&schema["required"]).map(text).collect();
        for (name, member) in members_of(&schema["properties"]) {
            self.add(&format!("{path}.{name}"), member, required.contains(&name.as_str()));
        }
        if schema["items"].is_object() {
            self.add(&format!("{path}[]"), &schema["items"], true);
        }
        if schema["additionalProperties"].is_object() {
            self.add(&format!("{path}.*"), &schema["additionalProperties"], true);
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            list(&schema[choice]).for_each(|schema| self.add_parts(path, schema));
        }
    }

    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
            Some(path) => self.description.pointer(path).unwrap_or(schema),
            None => schema,
        }
    }

    /// The type in words: `integer`, `string or null`.
    fn kind(&self, schema: &Value) -> String {
        let schema = self.resolved(schema);
        let choices = ["anyOf", "oneOf"].iter().flat_map(|choice| list(&schema[*choice]));
        let mut kinds: BTreeSet<String> = choices.map(|choice| self.kind(choice)).collect();
        kinds.extend(schema["type"].as_str().map(str::to_owned));
        kinds.extend(list(&schema["type"]).map(|kind| text(kind).to_owned()));
        if kinds.is_empty() {
            return "any".to_owned();
        }
        kinds.into_iter().collect::<Vec<_>>().join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{members, routes};

    #[test]
    fn members_are_found_through_references_lists_and_choices() {
        let description = json!({
            "paths": { "/jobs": { "get": {
                "operationId": "get_jobs",
                "x-role": "viewer",
                "parameters": [{ "in": "query", "name": "page", "schema": { "type": "integer" } }],
                "responses": { "200": { "content": { "application/json": { "schema": {
                    "$ref": "#/components/schemas/Jobs"
                } } } } },
            } } },
            "components": { "schemas": {
                "Jobs": { "type": "object", "required": ["jobs"], "properties": {
                    "jobs": { "type": "array", "items": { "$ref": "#/components/schemas/Job" } },
                } },
                "Job": { "type": "object", "properties": {
                    "error": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
                    "status": { "type": "string", "enum": ["failed"] },
                } },
            } },
        });
        assert_eq!(routes(&description).into_iter().collect::<Vec<_>>(), ["GET /jobs viewer"]);
        let expected = [
            "GET /jobs: answer is application/json",
            "GET /jobs: answer.jobs: array",
            "GET /jobs: answer.jobs[].error: null or string, optional",
            "GET /jobs: answer.jobs[].status = \"failed\"",
            "GET /jobs: answer.jobs[].status: string, optional",
            "GET /jobs: answer.jobs[]: object",
            "GET /jobs: answer: object",
            "GET /jobs: operationId get_jobs",
            "GET /jobs: query page: integer, optional",
        ];
        assert_eq!(members(&description).into_iter().collect::<Vec<_>>(), expected);
    }
}
