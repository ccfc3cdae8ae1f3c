//! The webhook over sockets: what it is asked, what its answers mean, and what its failures cost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tidings_broker::Broker;
use tidings_broker::auth::{LoginLimits, Webhook, WebhookOptions};

use crate::shell::builder;
use crate::wire::{Connect, Packet, Wire};

/// A program that answers each question by its body, and tells what it was asked.
fn program(answer: fn(&str) -> String) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, questions) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, asked) = (stream.unwrap(), asked.clone());
            thread::spawn(move || {
                let mut request = Vec::new();
                let mut chunk = [0; 4096];
                let body = loop {
                    let read = stream.read(&mut chunk).unwrap();
                    request.extend_from_slice(&chunk[..read]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.to_lowercase();
                    let length = length.split_once("content-length: ").unwrap().1;
                    let length: usize = length.lines().next().unwrap().parse().unwrap();
                    if body.len() == length {
                        assert!(head.starts_with("POST /login HTTP/1.1\r\n"), "{head}");
                        break body.to_owned();
                    }
                };
                let _ = asked.send(body.clone());
                let answer = answer(&body);
                if answer.is_empty() {
                    // Says nothing until the other side has had enough.
                    let _ = stream.read(&mut chunk);
                }
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    (address, questions)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn by_user(question: &str) -> String {
    let user = question.split_once("\"user_name\":\"").unwrap().1;
    match user.split('"').next().unwrap() {
        "bob" => http("200 OK", r#"{"user":"robert"}"#),
        "amy" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "eve" => http("403 Forbidden", "no"),
        "slow" => String::new(),
        "broken" => http("500 Internal Server Error", ""),
        "busy" => http("429 Too Many Requests", ""),
        "odd" => http("200 OK", "certainly"),
        "long" => http("200 OK", &" ".repeat(20_000)),
        "gone" => "HTTP/1.1 2".to_owned(),
        other => panic!("{other}"),
    }
}

fn broker(webhook: SocketAddr) -> Broker {
    let options = WebhookOptions {
        limits: LoginLimits::OFF,
        ..WebhookOptions::new(format!("http://{webhook}/login"))
    };
    builder().authenticate(Arc::new(Webhook::new(options).unwrap())).start().unwrap()
}

fn login(broker: &Broker, user: &str) -> u8 {
    let connect = Connect::new("phone").v5().user(user).password("pw");
    Wire::try_connect(broker.addresses()[0], &connect).unwrap().1
}

#[test]
fn answers_let_in_refuse_or_put_off() {
    let (address, questions) = program(by_user);
    let broker = broker(address);
    assert_eq!(login(&broker, "bob"), 0);
    let question = questions.recv().unwrap();
    let begin = r#"{"client_id":"phone","user_name":"bob","password":"pw","peer":"127.0.0.1:"#;
    assert!(question.starts_with(begin), "{question}");
    assert_eq!(login(&broker, "amy"), 0);
    assert_eq!(login(&broker, "eve"), 0x86);
    for user in ["slow", "broken", "busy", "odd", "long", "gone"] {
        assert_eq!(login(&broker, user), 0x88, "{user}");
    }
    let old = Connect::new("phone").user("broken").password("pw");
    assert_eq!(Wire::try_connect(broker.addresses()[0], &old).unwrap().1, 3);
}

#[test]
fn answers_are_repeated_without_asking_and_failures_are_not() {
    let (address, questions) = program(by_user);
    let broker = broker(address);
    for user in ["bob", "bob", "eve", "eve", "broken", "broken", "bob"] {
        login(&broker, user);
    }
    let asked: Vec<_> = questions.try_iter().collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
}

#[test]
fn user_of_the_answer_is_whose_session_it_is() {
    let (address, _questions) = program(by_user);
    let broker = broker(address);
    let connect = Connect::new("phone").v5().user("bob").password("pw");
    let mut wire = Wire::connect(broker.addresses()[0], &connect);
    broker.revoke("bob");
    wire.ping();
    broker.revoke("robert");
    assert_eq!(wire.next(), Packet::Disconnect(0x87));
}

#[test]
fn webhook_that_is_not_there_puts_logins_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(login(&broker(address), "bob"), 0x88);
}
