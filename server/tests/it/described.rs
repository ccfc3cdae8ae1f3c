//! Answers of the real binary are what its own description says.

use serde_json::{Value, json};

use crate::support::Server;
use crate::web::Ask;

/// Holds a value against a schema: types, what is required, and nothing that is not described.
fn check(value: &Value, schema: &Value, root: &Value, at: &str) {
    if let Some(to) = schema["$ref"].as_str() {
        return check(value, root.pointer(&to[1..]).unwrap(), root, at);
    }
    if !schema["const"].is_null() {
        return assert_eq!(*value, schema["const"], "{at}");
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = match &schema["type"] {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    assert!(types.contains(&json!(is)), "{at}: expected {types:?}, found {value}");
    match value {
        Value::Array(list) => {
            list.iter().for_each(|value| check(value, &schema["items"], root, &format!("{at}[]")));
        }
        Value::Object(map) => {
            for key in schema["required"].as_array().into_iter().flatten() {
                assert!(map.contains_key(key.as_str().unwrap()), "{at}: no {key}");
            }
            for (key, value) in map {
                let described = &schema["properties"][key];
                let more = &schema["additionalProperties"];
                let schema = if described.is_null() { more } else { described };
                assert!(!schema.is_null(), "{at}: nothing describes {key}");
                check(value, schema, root, &format!("{at}.{key}"));
            }
        }
        _ => {}
    }
}

#[test]
fn answers_are_what_the_description_says() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["--http", "127.0.0.1:0", "--set", "web.ice_servers=stun:a:1,turn:b:c@d:2"];
    let server = Server::start(directory.path(), &args);
    let web = server.web();
    let root = Ask::get("/api/openapi.json").send(web).ok();
    let ask = |method: &str, path: &str, body: Option<Value>, status: u16| {
        let ask = match &body {
            Some(body) => Ask::post(path, body),
            None => Ask::new(method, path),
        };
        let answer = ask.send(web);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let operation = &root["paths"][path][method.to_lowercase()];
        if let Some(body) = body {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            check(&body, schema, &root, path);
        }
        let mut response = &operation["responses"][status.to_string()];
        assert!(response.is_object(), "{path}: nothing says {status}");
        if let Some(to) = response["$ref"].as_str() {
            response = root.pointer(&to[1..]).unwrap();
        }
        let schema = &response["content"]["application/json"]["schema"];
        check(&answer.json(), schema, &root, path);
        answer.json()
    };
    ask("GET", "/api/config", None, 200);
    ask("GET", "/health", None, 200);
    ask("GET", "/api/stats", None, 200);
    let room = ask("POST", "/api/rooms", Some(json!({"names": ["Ann", "Ben"]})), 201);
    ask("POST", "/api/rooms", Some(json!({"names": ["Ann", ""]})), 400);
    let seat = &room["seats"][0];
    let key = json!({"link": seat["link"], "code": seat["code"]});
    ask("POST", "/api/seats", Some(key), 200);
    ask("POST", "/api/seats", Some(json!({"link": "~x", "code": "y"})), 403);
    ask("POST", "/api/login", Some(json!({"user": "alice"})), 200);
    ask("GET", "/mqtt", None, 426);
    ask("POST", "/api/admin/logout", Some(json!({"user": "alice"})), 200);
    ask("POST", "/api/admin/drain", None, 202);
}
