//! A transport whose other end the test holds: nothing happens that the test did not say.

use bytes::Bytes;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tidings_client::transport::{Happened, Link, Lost, Opened, Outgoing, Transport};
use tidings_client::{Client, ConnectOptions};
use tokio::sync::mpsc;

/// What the client did to its connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Publish(Outgoing),
    Subscribe(String, bool),
    Acknowledge(u16),
    Disconnect,
}

type Offer = Result<(FakeLink, Opened), Lost>;

pub(crate) struct FakeTransport(mpsc::UnboundedReceiver<Offer>);

pub(crate) struct FakeLink {
    said: mpsc::UnboundedSender<Said>,
    happens: mpsc::UnboundedReceiver<Happened>,
}

impl FakeLink {
    fn say(&self, said: Said) -> Result<(), Lost> {
        self.said.send(said).map_err(|_| ended())
    }
}

fn ended() -> Lost {
    Lost::Ended { cause: "cut by the test".to_owned() }
}

impl Transport for FakeTransport {
    type Link = FakeLink;

    async fn connect(&mut self) -> Offer {
        match self.0.recv().await {
            Some(offer) => offer,
            None => std::future::pending().await,
        }
    }
}

impl Link for FakeLink {
    fn publish(&mut self, publish: Outgoing) -> Result<(), Lost> {
        self.say(Said::Publish(publish))
    }

    fn subscribe(&mut self, filter: &str, subscribe: bool) -> Result<(), Lost> {
        self.say(Said::Subscribe(filter.to_owned(), subscribe))
    }

    fn acknowledge(&mut self, number: u16) -> Result<(), Lost> {
        self.say(Said::Acknowledge(number))
    }

    fn disconnect(&mut self) {
        let _ = self.say(Said::Disconnect);
        self.happens.close();
    }

    async fn next(&mut self) -> Result<Happened, Lost> {
        self.happens.recv().await.ok_or_else(ended)
    }
}

/// The test's side of the transport.
pub(crate) struct Broker(mpsc::UnboundedSender<Offer>);

impl Broker {
    pub(crate) fn new() -> (Self, FakeTransport) {
        let (offers, offered) = mpsc::unbounded_channel();
        (Self(offers), FakeTransport(offered))
    }

    pub(crate) fn refuse(&self, lost: Lost) {
        self.0.send(Err(lost)).unwrap();
    }

    /// Lets the client in and takes its first subscription.
    pub(crate) async fn open(&self) -> Connection {
        self.open_with(Opened { session_present: true, receive_maximum: 64 }).await
    }

    pub(crate) async fn open_with(&self, opened: Opened) -> Connection {
        let (say, said) = mpsc::unbounded_channel();
        let (happen, happens) = mpsc::unbounded_channel();
        self.0.send(Ok((FakeLink { said: say, happens }, opened))).unwrap();
        let mut connection = Connection { said, happen };
        assert_eq!(connection.said().await, Said::Subscribe("me/json/#".to_owned(), true));
        connection
    }
}

/// The test's side of one connection; dropping it cuts it.
pub(crate) struct Connection {
    said: mpsc::UnboundedReceiver<Said>,
    happen: mpsc::UnboundedSender<Happened>,
}

impl Connection {
    pub(crate) async fn said(&mut self) -> Said {
        soon(self.said.recv()).await.expect("the client let go of the connection")
    }

    pub(crate) async fn published(&mut self) -> Outgoing {
        match self.said().await {
            Said::Publish(publish) => publish,
            other => panic!("expected a publish, found {other:?}"),
        }
    }

    /// What was said until now and not taken yet.
    pub(crate) fn already_said(&mut self) -> Vec<Said> {
        std::iter::from_fn(|| self.said.try_recv().ok()).collect()
    }

    pub(crate) fn happen(&self, happened: Happened) {
        self.happen.send(happened).unwrap();
    }

    pub(crate) fn puback(&self, token: u64, reason: u8, properties: &[(&str, &str)]) {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let properties = properties.iter().map(owned).collect();
        self.happen(Happened::Acknowledged { token, reason, text: None, properties });
    }

    pub(crate) fn receive(&self, topic: &str, json: &str, number: Option<u16>) {
        let (topic, payload) = (topic.to_owned(), Bytes::from(json.to_owned()));
        self.happen(Happened::Received { topic, payload, number });
    }

    pub(crate) fn entry(&self, chat: &str, seq: u64, number: u16) {
        let json = format!(r#"{{"seq":{seq},"from":"bob","time":{seq},"text":"text {seq}"}}"#);
        self.receive(&format!("me/json/{chat}/message"), &json, Some(number));
    }

    /// Returns when the client has dealt with everything that happened before: an answer of QoS 1
    /// with the number 999 is acknowledged at once, in its turn.
    pub(crate) async fn settled(&mut self) -> Vec<Said> {
        self.receive("me/json/-/nothing", "{}", Some(999));
        let mut before = Vec::new();
        loop {
            match self.said().await {
                Said::Acknowledge(999) => return before,
                said => before.push(said),
            }
        }
    }
}

/// A directory of its own, removed at the end.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tidings-client-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::new("127.0.0.1:1", "alice", "phone")
            .data_dir(&self.0)
            .backoff(Duration::from_millis(1), Duration::from_millis(4))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) async fn client(dir: &TempDir) -> (Client, Broker) {
    let (broker, transport) = Broker::new();
    (Client::connect_with(transport, dir.options()).await.unwrap(), broker)
}

/// A bound on hanging, not a wait: what is awaited happens at once or is a defect.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing happened in 20 s")
}
