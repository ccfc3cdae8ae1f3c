//! A transport whose other end the test holds: nothing happens that the test did not say.

use bytes::Bytes;
use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tidings_client::store::{MemoryStore, SledStore, Store};
use tidings_client::transport::{Happened, Link, Lost, Opened, Outgoing, Transport};
use tidings_client::{Client, ConnectOptions};
use tokio::sync::{Mutex, mpsc};

/// What the client did to its connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Publish(Outgoing),
    Subscribe(String, bool),
    Acknowledge(u16),
    Disconnect,
}

type Offer = Result<(FakeLink, Opened), Lost>;

pub(crate) struct FakeTransport(Mutex<mpsc::UnboundedReceiver<Offer>>);

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

    async fn connect(&self, _keep_alive: Duration) -> Offer {
        match self.0.lock().await.recv().await {
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
        (Self(offers), FakeTransport(Mutex::new(offered)))
    }

    pub(crate) fn refuse(&self, lost: Lost) {
        self.0.send(Err(lost)).unwrap();
    }

    /// Lets the client in for the first time: takes its subscription and says that there is no chat.
    pub(crate) async fn open(&self) -> Connection {
        let mut connection = self.open_again(false).await;
        let own = "me/json/#".to_owned();
        assert_eq!(connection.said().await, Said::Subscribe(own.clone(), true));
        connection.happen(Happened::Subscribed { filter: own, refused: None });
        connection.no_chats().await;
        connection
    }

    /// Lets the client in, with its session or without.
    pub(crate) async fn open_again(&self, session_present: bool) -> Connection {
        let (say, said) = mpsc::unbounded_channel();
        let (happen, happens) = mpsc::unbounded_channel();
        let opened = Opened { session_present, receive_maximum: 64 };
        self.0.send(Ok((FakeLink { said: say, happens }, opened))).unwrap();
        Connection { said, happen, kept: VecDeque::new() }
    }
}

/// The test's side of one connection; dropping it cuts it.
pub(crate) struct Connection {
    said: mpsc::UnboundedReceiver<Said>,
    happen: mpsc::UnboundedSender<Happened>,
    /// Said meanwhile, and not taken yet.
    kept: VecDeque<Said>,
}

impl Connection {
    pub(crate) async fn said(&mut self) -> Said {
        if let Some(said) = self.kept.pop_front() {
            return said;
        }
        soon(self.said.recv()).await.expect("the client let go of the connection")
    }

    pub(crate) async fn published(&mut self) -> Outgoing {
        match self.said().await {
            Said::Publish(publish) => publish,
            other => panic!("expected a publish, found {other:?}"),
        }
    }

    /// Takes the question where all chats are, and says that there are none.
    pub(crate) async fn no_chats(&mut self) {
        let asked = self.published().await;
        assert_eq!(asked.topic, "me/sync");
        self.puback(asked.token, 0, &[]);
        self.answer(&asked, "me/json/-/sync", r#""chats":[]"#).await;
    }

    /// Answers a question, and waits until the client has acknowledged that.
    pub(crate) async fn answer(&mut self, asked: &Outgoing, topic: &str, fields: &str) {
        let json: serde_json::Value = serde_json::from_slice(&asked.payload).unwrap();
        let json = format!(r#"{{"request":{},{fields}}}"#, json["request"]);
        self.receive(topic, &json, Some(998));
        let mut before = VecDeque::new();
        loop {
            match self.said().await {
                Said::Acknowledge(998) => break,
                said => before.push_back(said),
            }
        }
        self.kept = before;
    }

    /// What was said until now and not taken yet.
    pub(crate) fn already_said(&mut self) -> Vec<Said> {
        std::iter::from_fn(|| self.kept.pop_front().or_else(|| self.said.try_recv().ok())).collect()
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
        // What a test failed with is worth a look.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

pub(crate) async fn client(dir: &TempDir) -> (Client, Broker) {
    let store = Arc::new(SledStore::open(&dir.0).unwrap());
    client_with(dir, store).await
}

pub(crate) async fn in_memory() -> (Client, Broker) {
    client_with(&TempDir::new(), Arc::new(MemoryStore::default())).await
}

pub(crate) async fn client_with(dir: &TempDir, store: Arc<dyn Store>) -> (Client, Broker) {
    let (broker, transport) = Broker::new();
    (Client::connect_with(transport, store, dir.options()).await.unwrap(), broker)
}

/// A bound on hanging, not a wait: what is awaited happens at once or is a defect.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing happened in 20 s")
}
