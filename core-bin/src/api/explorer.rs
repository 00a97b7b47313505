//! The explorer page: each operation of the document with a form to try it. Nothing is loaded from
//! elsewhere, and the token stays in the page's memory.

use askama::Template;
use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::Html;
use axum::routing::get;
use serde_json::{Value, json};

const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                   form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
const SCRIPT: &str = include_str!("../../templates/api.js");
const STYLE: &str = include_str!("../../templates/api.css");

#[derive(Template)]
#[template(path = "api.html")]
struct Page {
    operations: Vec<Operation>,
}

struct Operation {
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
    let text = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, kind)], text) })
    };
    Router::new()
        .route(
            "/api/docs",
            get(move || async move { ([(CONTENT_SECURITY_POLICY, CSP)], Html(html)) }),
        )
        .route("/api/docs.js", text("text/javascript; charset=utf-8", SCRIPT))
        .route("/api/docs.css", text("text/css; charset=utf-8", STYLE))
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        item.as_object().into_iter().flatten().map(move |(verb, operation)| (path, verb, operation))
    });
    all.map(|(path, verb, operation)| {
        let text = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        Operation {
            id: text("operationId"),
            verb: verb.to_uppercase(),
            path: path.clone(),
            summary: text("summary"),
            scope: text("x-scope"),
            parameters: operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .map(parameter)
                .collect(),
            body: (!schema.is_null()).then(|| format!("{:#}", example(document, schema))),
        }
    })
    .collect()
}

fn parameter(parameter: &Value) -> Parameter {
    let text = |name: &str| parameter[name].as_str().unwrap_or_default().to_owned();
    let options = parameter["schema"]["enum"].as_array().into_iter().flatten();
    Parameter {
        name: text("name"),
        place: text("in"),
        words: text("description"),
        options: options.filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        required: parameter["required"] == true,
    }
}

/// Fills in a body's shape: what is needed, or if nothing is, every field.
fn example(document: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|text| text.rsplit('/').next()) {
        return example(document, &document["components"]["schemas"][name]);
    }
    if let Some(first) = schema["oneOf"].as_array().and_then(|all| all.first()) {
        return example(document, first);
    }
    if let Some(fields) = schema["properties"].as_object() {
        let filled = fields.iter().map(|(name, field)| (name.clone(), example(document, field)));
        return Value::Object(filled.collect());
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("string") => json!(""),
        Some("boolean") => json!(false),
        Some("integer" | "number") => json!(0),
        Some("array") => json!([]),
        _ => Value::Null,
    }
}
