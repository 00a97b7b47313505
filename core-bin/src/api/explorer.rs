//! The explorer page: each operation of the document with a form to try it. The page is whole in one
//! answer, nothing is loaded from elsewhere, and the token stays in the page's memory.

use askama::Template;
use axum::Router;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::Html;
use axum::routing::get;
use serde_json::{Value, json};

use crate::http::policy;

/// What the page's policy allows beside what it brings with it.
const ALLOWED: &str =
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
const SCRIPT: &str = include_str!("../../templates/api.js");
const STYLE: &str =
    concat!(include_str!("../../../look/style.css"), include_str!("../../templates/api.css"));

#[derive(Template)]
#[template(path = "api.html")]
struct Page {
    operations: Vec<Operation>,
}

struct Operation {
    /// The noun that it is about, where another one begins.
    heading: Option<String>,
    id: String,
    verb: String,
    path: String,
    summary: String,
    scope: String,
    parameters: Vec<Parameter>,
    body: Option<String>,
}

struct Parameter {
    name: String,
    place: String,
    words: String,
    options: Vec<String>,
    required: bool,
}

pub(super) fn router<S: Clone + Send + Sync + 'static>(document: &Value) -> Router<S> {
    let page = Page { operations: operations(document) };
    // Rendering into a String fails only if a template says so, and none does.
    let html = page.render().unwrap_or_default();
    let csp = policy::of(STYLE, SCRIPT, ALLOWED);
    Router::new().route(
        "/api/docs",
        get(move || async move { ([(CONTENT_SECURITY_POLICY, csp)], Html(html)) }),
    )
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        item.as_object().into_iter().flatten().map(move |(verb, operation)| (path, verb, operation))
    });
    let mut before = String::new();
    all.map(|(path, verb, operation)| {
        let text = |name: &str| text_of(operation, name);
        let noun = path.split('/').nth(3).unwrap_or_default();
        let heading = (noun != before).then(|| noun.to_owned());
        noun.clone_into(&mut before);
        let schema = operation.pointer("/requestBody/content/application~1json/schema");
        Operation {
            heading,
            id: text("operationId"),
            verb: verb.to_uppercase(),
            path: path.clone(),
            summary: text("summary"),
            scope: text("x-scope"),
            parameters: operation
                .get("parameters")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(parameter)
                .collect(),
            body: schema.map(|schema| format!("{:#}", example(document, schema))),
        }
    })
    .collect()
}

fn parameter(parameter: &Value) -> Parameter {
    let text = |name: &str| text_of(parameter, name);
    let options = parameter.pointer("/schema/enum").and_then(Value::as_array).into_iter().flatten();
    Parameter {
        name: text("name"),
        place: text("in"),
        words: text("description"),
        options: options.filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        required: parameter.get("required") == Some(&Value::Bool(true)),
    }
}

/// Fills in a body's shape: what is needed, or if nothing is, every field.
fn example(document: &Value, schema: &Value) -> Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    if let Some(place) = reference.and_then(|text| text.strip_prefix('#')) {
        return document.pointer(place).map_or(Value::Null, |schema| example(document, schema));
    }
    if let Some(first) = schema.pointer("/oneOf/0") {
        return example(document, first);
    }
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        let filled = fields.iter().map(|(name, field)| (name.clone(), example(document, field)));
        return Value::Object(filled.collect());
    }
    // One type, or several of which the others are null.
    let kind = schema.get("type").and_then(Value::as_str);
    let kind = kind.or_else(|| schema.pointer("/type/0").and_then(Value::as_str));
    match kind {
        Some("string") => json!(""),
        Some("boolean") => json!(false),
        Some("integer" | "number") => json!(0),
        Some("array") => json!([]),
        _ => Value::Null,
    }
}

fn text_of(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
