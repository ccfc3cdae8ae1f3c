//! Bytes as they are: a listener that answers as little as it likes.

use crate::fake::soon;
use tidings_client::transport::Lost;
use tidings_client::{Client, ConnectOptions, Event, Events, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn listen() -> (TcpListener, ConnectOptions) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, ConnectOptions::new(address, "alice", "phone").in_memory())
}

/// A connection behind its CONNECT, whose Keep Alive is returned, and a CONNACK with these bytes.
async fn accept(listener: &TcpListener, connack: &[u8]) -> (TcpStream, u16) {
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut header = [0; 2];
    soon(stream.read_exact(&mut header)).await.unwrap();
    assert_eq!(header[0], 0x10);
    let mut connect = vec![0; usize::from(header[1])];
    soon(stream.read_exact(&mut connect)).await.unwrap();
    assert_eq!(connect[..7], *b"\0\x04MQTT\x05");
    stream.write_all(connack).await.unwrap();
    (stream, u16::from_be_bytes([connect[8], connect[9]]))
}

async fn offline(events: &mut Events) -> Lost {
    loop {
        if let Event::State(State::Offline { reason, .. }) = events.next().await.unwrap() {
            return reason;
        }
    }
}

const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];

#[tokio::test]
async fn dead_connection_is_found_and_the_next_one_is_silent_for_less() {
    let (listener, options) = listen().await;
    let client = Client::connect(options).await.unwrap();
    let mut events = client.events();
    let (mut silent, keep_alive) = accept(&listener, &CONNACK).await;
    assert_eq!(keep_alive, 60);
    soon(client.online()).await.unwrap();
    // Nothing comes any more; the clock may jump.
    tokio::time::pause();
    assert!(matches!(offline(&mut events).await, Lost::Silent { .. }));
    tokio::time::resume();
    let mut said = Vec::new();
    silent.read_to_end(&mut said).await.unwrap();
    assert!(said.windows(2).any(|bytes| bytes == [0xc0, 0]), "a PINGREQ: {said:x?}");
    let (_next, keep_alive) = accept(&listener, &CONNACK).await;
    assert_eq!(keep_alive, 30);
}

#[tokio::test]
async fn what_is_no_mqtt_ends_the_connection_and_not_the_client() {
    let (listener, options) = listen().await;
    let client = Client::connect(options).await.unwrap();
    let mut events = client.events();
    for nonsense in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0x20, 3, 0, 0x87, 0], &[0xff; 64]]
    {
        let (_stream, _) = accept(&listener, nonsense).await;
        soon(offline(&mut events)).await;
        client.reconnect().await.unwrap();
    }
    // An entry that claims the last place there could be, and one that no log has.
    let (mut stream, _) = accept(&listener, &CONNACK).await;
    for seq in ["18446744073709551615", "9007199254740992", "0"] {
        let topic = b"me/json/@bob/message";
        let json = format!(r#"{{"seq":{seq},"from":"bob","time":1,"id":"x","text":"x"}}"#);
        let length = u8::try_from(2 + topic.len() + 2 + 1 + json.len()).unwrap();
        let head = [0x32, length, 0, u8::try_from(topic.len()).unwrap()];
        let packet = [&head[..], topic, &[0, 7, 0], json.as_bytes()].concat();
        stream.write_all(&packet).await.unwrap();
    }
    let mut said = vec![0; 4_096];
    let mut acknowledged = 0;
    while acknowledged < 3 {
        let read = soon(stream.read(&mut said)).await.unwrap();
        assert_ne!(read, 0, "the client went");
        acknowledged += said[..read].windows(4).filter(|bytes| *bytes == [0x40, 2, 0, 7]).count();
    }
    assert_eq!(client.chats().len(), 1);
}
