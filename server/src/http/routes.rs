//! What there is under which path. `openapi.json` describes each; a test holds the two together.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use tokio::time::timeout;

use super::error::ApiError;
use super::{Site, api, app, headers, login, media, metrics, mqtt, operator, peer, rooms, stats};

/// All of it.
pub(super) fn router(site: Arc<Site>) -> Router {
    let [public, operators, uploads, files, sockets] = all().map(|routes| routes.router);
    let only_operators = from_fn_with_state(Arc::clone(&site), operator::only);
    let api = public
        .merge(operators.route_layer(only_operators))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&site), peer::guard_against_pages))
        .layer(from_fn_with_state(Arc::clone(&site), in_time));
    let uploads = uploads
        .layer(from_fn(media::tus))
        .layer(from_fn_with_state(Arc::clone(&site), peer::guard_against_pages))
        // It has time for each piece, and bounds of its own.
        .layer(DefaultBodyLimit::disable());
    api.merge(uploads)
        .merge(files)
        .merge(sockets)
        .fallback(app::serve)
        .method_not_allowed_fallback(async || {
            let text = "this path takes other methods; GET /api/openapi.json says which";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "format", text)
        })
        .layer(from_fn(headers::secure))
        .with_state(site)
}

/// For anybody, for operators, for uploads, files, and what becomes a socket.
fn all() -> [Routes; 5] {
    let public = Routes::default()
        .get("/api/config", api::config)
        .post("/api/rooms", rooms::make)
        .post("/api/seats", rooms::open)
        .post("/api/login", login::login)
        .get("/api/openapi.json", description)
        .get("/health", api::health);
    let operators = Routes::default()
        .get("/metrics", metrics::metrics)
        .get("/api/stats", stats::stats)
        .post("/api/admin/logout", operator::log_out)
        .post("/api/admin/drain", operator::drain);
    let upload = "/api/media/uploads/{id}";
    let uploads = Routes::default()
        .on(MethodFilter::OPTIONS, "options", "/api/media", media::options)
        .post("/api/media", media::begin)
        .on(MethodFilter::HEAD, "head", upload, media::progress)
        .on(MethodFilter::PATCH, "patch", upload, media::go_on)
        .on(MethodFilter::DELETE, "delete", upload, media::give_up);
    let files = Routes::default().get("/api/media/{sha256}", media::get);
    let sockets = Routes::default().get("/mqtt", mqtt::upgrade);
    [public, operators, uploads, files, sockets]
}

/// Routes, and what they are, which a [`Router`] does not tell.
#[derive(Default)]
struct Routes {
    router: Router<Arc<Site>>,
    /// Method and path.
    listed: Vec<(&'static str, &'static str)>,
}

impl Routes {
    fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, Arc<Site>>) -> Self {
        self.on(MethodFilter::GET, "get", path, handler)
    }

    fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, Arc<Site>>) -> Self {
        self.on(MethodFilter::POST, "post", path, handler)
    }

    fn on<T: 'static>(
        mut self,
        filter: MethodFilter,
        method: &'static str,
        path: &'static str,
        handler: impl Handler<T, Arc<Site>>,
    ) -> Self {
        self.listed.push((method, path));
        Self { router: self.router.route(path, on(filter, handler)), ..self }
    }
}

/// `GET /api/openapi.json`
async fn description() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], DESCRIPTION).into_response()
}

/// Ends what takes longer than a request may, such as a body that never comes.
async fn in_time(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let answer = timeout(site.options.timeout, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        let text = "the request did not arrive in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "format", text).into_response()
    })
}

const DESCRIPTION: &str = include_str!("openapi.json");

/// The largest body of what is no upload.
const BODY_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_route_is_described_and_every_description_is_of_a_route() {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        let routes = all().into_iter().flat_map(|routes| routes.listed);
        let routes: BTreeSet<_> =
            routes.map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
        let paths = description["paths"].as_object().unwrap();
        let mut described = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (path, operations) in paths {
            let methods = operations.as_object().unwrap().iter();
            for (method, operation) in methods.filter(|(key, _)| *key != "parameters") {
                described.insert((method.clone(), path.clone()));
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}");
                assert!(operation["summary"].as_str().is_some_and(|it| it.ends_with('.')));
                let named: BTreeSet<_> =
                    path.split('/').filter_map(|part| part.strip_prefix('{')).collect();
                let parameters = [&operations["parameters"], &operation["parameters"]];
                for name in named {
                    let name = name.trim_end_matches('}');
                    let mut all = parameters.iter().filter_map(|it| it.as_array()).flatten();
                    assert!(
                        all.any(|it| it["name"] == name),
                        "{path}: nothing says what {name} is"
                    );
                }
            }
        }
        assert_eq!(routes, described);
    }

    #[test]
    fn what_the_description_refers_to_is_there() {
        fn walk(value: &Value, root: &Value) {
            if let Some(to) = value["$ref"].as_str() {
                let pointer = to.strip_prefix('#').unwrap();
                assert!(root.pointer(pointer).is_some(), "there is no {to}");
            }
            match value {
                Value::Object(map) => map.values().for_each(|value| walk(value, root)),
                Value::Array(list) => list.iter().for_each(|value| walk(value, root)),
                _ => {}
            }
        }
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        walk(&description, &description);
        // What is required is described.
        for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
            for key in schema["required"].as_array().into_iter().flatten() {
                let key = key.as_str().unwrap();
                assert!(schema["properties"][key].is_object(), "{name}: {key}");
            }
        }
    }
}
