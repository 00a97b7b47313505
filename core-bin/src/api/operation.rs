//! One operation: a route behind its scope, and its entry in the `OpenAPI` document.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::ROOT;
use super::actor::{Guard, authorize};
use crate::app::App;
use crate::flows::api_token::Scope;

/// An operation as it is documented.
pub(super) struct Operation {
    verb: &'static str,
    filter: MethodFilter,
    /// Below [`ROOT`].
    path: &'static str,
    id: &'static str,
    scope: Scope,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answer: Value,
    status: StatusCode,
    conditional: bool,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    pub(super) fn get(path: &'static str, id: &'static str, scope: Scope) -> Self {
        Self::new("get", MethodFilter::GET, path, id, scope)
    }

    pub(super) fn post(path: &'static str, id: &'static str, scope: Scope) -> Self {
        Self::new("post", MethodFilter::POST, path, id, scope)
    }

    pub(super) fn patch(path: &'static str, id: &'static str, scope: Scope) -> Self {
        Self::new("patch", MethodFilter::PATCH, path, id, scope)
    }

    pub(super) fn put(path: &'static str, id: &'static str, scope: Scope) -> Self {
        Self::new("put", MethodFilter::PUT, path, id, scope)
    }

    pub(super) fn delete(path: &'static str, id: &'static str, scope: Scope) -> Self {
        Self::new("delete", MethodFilter::DELETE, path, id, scope)
    }

    fn new(
        verb: &'static str,
        filter: MethodFilter,
        path: &'static str,
        id: &'static str,
        scope: Scope,
    ) -> Self {
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = names
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        Self {
            verb,
            filter,
            path,
            id,
            scope,
            summary: "",
            parameters,
            body: None,
            answer: Value::Null,
            status: StatusCode::NO_CONTENT,
            conditional: false,
            schemas: Vec::new(),
        }
    }

    /// What it does, in a sentence.
    pub(super) const fn says(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    /// A parameter of the query.
    pub(super) fn query(mut self, name: &str, schema: &Value, words: &str) -> Self {
        self.parameters
            .push(json!({"name": name, "in": "query", "description": words, "schema": schema}));
        self
    }

    /// The parameters of a list that is paged, searched and sorted.
    pub(super) fn paged(self, sorts: &[&str]) -> Self {
        let sorts: Vec<String> =
            sorts.iter().flat_map(|sort| [(*sort).to_owned(), format!("-{sort}")]).collect();
        self.query("search", &json!({"type": "string"}), "Only what has this in its names, in whatever case; devices also by their whole public key.")
            .query("sort", &json!({"type": "string", "enum": sorts}), "By what; with - downwards.")
            .query(
                "limit",
                &json!({"type": "integer", "minimum": 1, "maximum": super::page::MAX, "default": super::page::DEFAULT}),
                "How many at most.",
            )
            .query("offset", &json!({"type": "integer", "minimum": 0, "default": 0}), "How many to pass over.")
    }

    /// The request's body.
    pub(super) fn takes<T: ToSchema>(mut self) -> Self {
        self.body = Some(self.schema::<T>());
        self
    }

    /// The answer's body.
    pub(super) fn answers<T: ToSchema>(mut self, status: StatusCode) -> Self {
        self.answer = self.schema::<T>();
        self.status = status;
        self
    }

    /// The answer is a list.
    pub(super) fn answers_list<T: ToSchema>(mut self) -> Self {
        self.answer = json!({"type": "array", "items": self.schema::<T>()});
        self.status = StatusCode::OK;
        self
    }

    /// The answer is a page of a list.
    pub(super) fn answers_page<T: ToSchema>(mut self) -> Self {
        let number = json!({"type": "integer", "minimum": 0});
        let items = self.schema::<T>();
        self.answer = json!({
            "type": "object",
            "required": ["items", "total", "limit", "offset"],
            "properties": {
                "items": {"type": "array", "items": items},
                "total": number, "limit": number, "offset": number,
            },
        });
        self.status = StatusCode::OK;
        self
    }

    /// It heeds `If-Match`.
    pub(super) fn conditional(mut self) -> Self {
        self.parameters.push(json!({
            "name": "If-Match", "in": "header", "schema": {"type": "string"},
            "description": "The ETag that was read; another state is not changed.",
        }));
        self.conditional = true;
        self
    }

    /// Notes a schema among the components, and returns a reference to it.
    fn schema<T: ToSchema>(&mut self) -> Value {
        let name = T::name().into_owned();
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        T::schemas(&mut self.schemas);
        self.schemas.push((name, T::schema()));
        reference
    }

    fn describe(&self) -> Value {
        let mut responses = Map::new();
        let problem = |words: &str| json!({"description": words, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}});
        let good = if self.answer.is_null() {
            json!({"description": "Done."})
        } else {
            json!({"description": "Done.", "content": {"application/json": {"schema": self.answer}}})
        };
        responses.insert(self.status.as_u16().to_string(), good);
        responses.insert("401".to_owned(), problem("No token, or one that is not good."));
        responses.insert("403".to_owned(), problem("The token lacks the scope."));
        responses.insert("429".to_owned(), problem("Too many requests."));
        if self.conditional {
            responses.insert("412".to_owned(), problem("It was changed meanwhile."));
        }
        responses.insert("default".to_owned(), problem("Refused; nothing was changed."));
        let tag = self.path.split('/').nth(1).unwrap_or_default();
        let mut described = json!({
            "operationId": self.id,
            "tags": [tag],
            "summary": self.summary,
            "description": format!("Needs the scope `{}`.", self.scope.code()),
            "security": [{"token": [self.scope.code()]}],
            "x-scope": self.scope.code(),
            "parameters": self.parameters,
            "responses": responses,
        });
        if let (Some(body), Some(fields)) = (&self.body, described.as_object_mut()) {
            let content =
                json!({"required": true, "content": {"application/json": {"schema": body}}});
            fields.insert("requestBody".to_owned(), content);
        }
        described
    }
}

/// The routes so far, and what is written of them.
#[derive(Debug)]
pub(super) struct Api {
    app: Arc<App>,
    router: Router<Arc<App>>,
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Api {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app), router: Router::new(), paths: Map::new(), schemas: Map::new() }
    }

    /// Adds an operation: `handler` runs for those alone who have its scope.
    pub(super) fn add<H, T>(&mut self, operation: Operation, handler: H)
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let path = format!("{ROOT}{}", operation.path);
        let guard = Guard { app: Arc::clone(&self.app), scope: operation.scope };
        let route = on(operation.filter, handler).layer(from_fn_with_state(guard, authorize));
        self.router = core::mem::take(&mut self.router).route(&path, route);
        let described = operation.describe();
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(operation.verb.to_owned(), described);
        }
        for (name, schema) in operation.schemas {
            self.schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
        }
    }

    /// Returns the routes and the document.
    pub(super) fn finish(self) -> (Router<Arc<App>>, Arc<Value>) {
        let mut schemas = self.schemas;
        schemas.insert("Problem".to_owned(), super::problem::schema());
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "wg-mfa",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Administers wg-mfa. Make a token on the server: `core-bin token add NAME --scopes users:read`.",
                "license": {"name": "Apache-2.0 OR MIT"},
            },
            "servers": [{"url": "/"}],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "An API token."}},
            },
        });
        (self.router, Arc::new(document))
    }
}
