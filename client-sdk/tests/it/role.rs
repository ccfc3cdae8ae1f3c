//! Parts that a test kills: this very binary, started again as a broker or as a program with the SDK.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tidings_broker::{Broker, Builder};
use tidings_chat::{Chat, ChatOptions};
use tidings_client::{Client, ConnectOptions, EntryKind, SendOptions};

/// A process of another role; killed when it is dropped.
pub(crate) struct Role {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Role {
    /// Starts the ignored test `name` of this binary, with an argument for it.
    pub(crate) fn start(name: &str, argument: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", &format!("role::{name}")])
            .env("TIDINGS_ROLE", argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output).lines() }
    }

    /// The next line that begins with this word, behind it.
    pub(crate) fn line(&mut self, word: &str) -> String {
        loop {
            let line = self.output.next().expect("the process ended").unwrap();
            // What the test runner prints may stand in front of the first one.
            if let Some(at) = line.find(word) {
                return line[at + word.len()..].trim().to_owned();
            }
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker with chat in this process.
pub(crate) fn broker(directory: Option<&Path>) -> Broker {
    let mut builder = Builder::new()
        .listen("127.0.0.1:0".parse().unwrap())
        .shards(2)
        .service(Arc::new(Chat::new(ChatOptions::default())));
    builder = match directory {
        Some(directory) => builder.data_dir(directory),
        None => builder.durability(tidings_broker::Durability::Memory),
    };
    builder.start().unwrap()
}

pub(crate) fn start_broker(directory: &Path) -> (Role, SocketAddr) {
    let mut role = Role::start("as_broker", directory.to_str().unwrap());
    let address = role.line("listening").parse().unwrap();
    (role, address)
}

#[test]
#[ignore = "a process of another test"]
fn as_broker() {
    let Ok(directory) = std::env::var("TIDINGS_ROLE") else { return };
    let broker = broker(Some(Path::new(&directory)));
    println!("listening {}", broker.addresses()[0]);
    let _ = broker.wait();
}

/// A program that sends numbers to chats, round and round, and says what it has heard:
/// `USER DIRECTORY ADDRESS COUNT CHAT...`. What it has sent before it was killed is in its store.
#[test]
#[ignore = "a process of another test"]
fn as_program() {
    let Ok(argument) = std::env::var("TIDINGS_ROLE") else { return };
    let words: Vec<&str> = argument.split(' ').collect();
    let [user, directory, address, count, ref chats @ ..] = words[..] else { panic!("{words:?}") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let count: u64 = count.parse().unwrap();
    runtime.block_on(program(user, directory, address, count, chats));
}

async fn program(user: &str, directory: &str, address: &str, count: u64, chats: &[&str]) {
    let options = ConnectOptions::new(address, user, format!("{user}-phone"))
        .data_dir(directory)
        .backoff(Duration::from_millis(20), Duration::from_millis(500));
    let client = Client::connect(options).await.unwrap();
    // A device hears what comes from when it is known on: the chats that it is told of say so.
    let mut changes = client.changes();
    while client.chats().is_empty() {
        changes.next().await.unwrap();
    }
    println!("online");
    let mut lines = lines_of_input();
    assert_eq!(lines.recv().await.as_deref(), Some("go"));
    let sending = tokio::spawn({
        let client = client.clone();
        let names: Vec<String> = chats.iter().map(|chat| (*chat).to_owned()).collect();
        let at = Path::new(directory).join("sent");
        async move { send_all(&client, &names, &at, count).await }
    });
    let mut messages = client.messages();
    let wait = Duration::from_millis(200);
    loop {
        tokio::select! {
            Some(entry) = messages.next() => {
                if entry.kind == EntryKind::Message {
                    client.chat(&entry.chat).unwrap().mark_read(entry.seq).await.unwrap();
                }
            }
            line = lines.recv() => {
                if line.as_deref() == Some("stop") {
                    break;
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
        if sending.is_finished() && client.unanswered() == 0 {
            println!("sent");
        }
    }
    let traffic = client.traffic();
    println!("traffic {} {}", traffic.packets_sent, traffic.bytes_sent);
    println!("received {} {}", traffic.packets_received, traffic.bytes_received);
    drop(messages);
    client.close().await;
    println!("stopped");
}

/// The ids are numbers: what was sent before a crash, and is sent again, is the same message.
async fn send_all(client: &Client, chats: &[String], at: &Path, count: u64) {
    let text = std::fs::read_to_string(at).unwrap_or_default();
    let done: u64 = text.trim().parse().unwrap_or(0);
    for number in done..count {
        let index = usize::try_from(number).unwrap() % chats.len();
        let chat = client.chat(&chats[index]).unwrap();
        let options = SendOptions::default().id(format!("n{number}"));
        loop {
            match chat.send_with(number.to_string(), options.clone()).await {
                Ok(_) => break,
                // Full: until some are answered.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        // As a program would that keeps what it has done: a crash in between repeats one.
        let draft = at.with_extension("draft");
        std::fs::write(&draft, (number + 1).to_string()).unwrap();
        std::fs::rename(&draft, at).unwrap();
    }
}

fn lines_of_input() -> tokio::sync::mpsc::Receiver<String> {
    let (lines, read) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    read
}
