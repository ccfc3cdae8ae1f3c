//! The messenger of `examples/chat` as people use it: in a terminal, with keys and a screen.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tidings_broker::{Broker, Builder, Durability};
use tidings_chat::{Chat, ChatOptions};

const ROWS: u16 = 24;
const COLUMNS: u16 = 90;

/// The messenger on a terminal of its own.
struct Terminal {
    keys: File,
    screen: Arc<(Mutex<vt100::Parser>, Condvar)>,
    child: Child,
}

impl Terminal {
    fn open(arguments: &[&str]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = || {
            let file = File::options().read(true).write(true).open(&name).unwrap();
            Stdio::from(file)
        };
        let child = Command::new(example())
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(theirs())
            .stdout(theirs())
            .stderr(theirs())
            .spawn()
            .unwrap();
        let keys = File::from(ours);
        let mut read = keys.try_clone().unwrap();
        let screen = Arc::new((Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)), Condvar::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = read.read(&mut bytes) {
                shown.0.lock().unwrap().process(&bytes[..count]);
                shown.1.notify_all();
            }
        });
        Self { keys, screen, child }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn line(&mut self, text: &str) {
        self.press(&format!("{text}\r"));
    }

    /// Waits until the screen is as it should be. The time is only how long a failure takes.
    fn until(&self, what: &str, seen: impl Fn(&str) -> bool) {
        let (screen, changed) = &*self.screen;
        let end = Instant::now() + Duration::from_secs(30);
        let mut parser = screen.lock().unwrap();
        while !seen(&parser.screen().contents()) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}:\n{}", parser.screen().contents());
            parser = changed.wait_timeout(parser, left).unwrap().0;
        }
    }

    fn shows(&self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Waits until a text has a colour.
    fn shows_in(&self, text: &str, colour: vt100::Color) {
        let (screen, changed) = &*self.screen;
        let end = Instant::now() + Duration::from_secs(30);
        let mut parser = screen.lock().unwrap();
        let is_there = |screen: &vt100::Screen| {
            (0..ROWS).any(|row| {
                let cells = (0..COLUMNS).filter_map(|column| screen.cell(row, column));
                let of: String = cells
                    .filter(|cell| cell.fgcolor() == colour)
                    .map(vt100::Cell::contents)
                    .collect();
                of.contains(text)
            })
        };
        while !is_there(parser.screen()) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{text} in {colour:?}:\n{}", parser.screen().contents());
            parser = changed.wait_timeout(parser, left).unwrap().0;
        }
    }

    fn leave(mut self) {
        self.press("\x03");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The program. `cargo test` builds it beside the tests; where only these were built, it is made now.
fn example() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples");
    let program = folder.join("chat");
    let made = program.metadata().and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let crate_of = Path::new(env!("CARGO_MANIFEST_DIR"));
    if newest(&crate_of.join("examples/chat")).max(newest(&crate_of.join("src"))) > made {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "tidings-client", "--example", "chat"]);
        assert!(cargo.status().unwrap().success());
    }
    program
}

/// When a file of a folder was last changed.
fn newest(folder: &Path) -> SystemTime {
    let of = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => newest(&path),
        path => path.metadata().unwrap().modified().unwrap(),
    };
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| of(entry.unwrap())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn broker(address: &str) -> Broker {
    let mut options = ChatOptions::default();
    options.requests = false;
    Builder::new()
        .listen(address.parse().unwrap())
        .durability(Durability::Memory)
        .service(Arc::new(Chat::new(options)))
        .start()
        .unwrap()
}

fn open(user: &str, address: &str, more: &[&str]) -> Terminal {
    let data = format!("{}/terminal-{}-{user}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let _new = std::fs::remove_dir_all(&data);
    let arguments = [&["--user", user, "--addr", address, "--data", &data], more].concat();
    Terminal::open(&arguments)
}

#[test]
fn two_people_chat_in_two_terminals() {
    let server = broker("127.0.0.1:0");
    let address = server.addresses()[0].to_string();
    let mut alice = open("alice", &address, &[]);
    alice.shows("/chat bob");
    let mut bob = open("bob", &address, &["--with", "@alice"]);
    bob.shows("Nothing in @alice yet");
    bob.line("hello Alice");
    alice.shows("bob: hello Alice");
    alice.shows("@bob  online");
    // It is on her screen, so it is read: blue.
    bob.shows_in("✓✓", vt100::Color::Idx(4));
    alice.press("hi");
    bob.shows("alice is typing…");
    alice.press("\r");
    bob.shows("alice: hi");
    // A group, and what is unread in the chat that is not open.
    alice.line("/group climbing bob");
    bob.shows("climbing");
    alice.line("on Sunday?");
    bob.shows(" 1 ");
    bob.press("\t");
    bob.shows("alice made the group with bob");
    bob.shows("alice: on Sunday?");
    alice.shows_in("✓✓", vt100::Color::Idx(4));
    bob.line("/reply - yes");
    alice.shows("↪ on Sunday?");
    alice.line("/react - :)");
    bob.shows(":) alice");
    bob.line("/edit - yes, at nine");
    alice.shows("bob: yes, at nine (edited)");
    alice.leave();
    bob.leave();
    server.stop().unwrap();
}

#[test]
fn what_is_written_without_a_broker_waits_and_goes() {
    let first = broker("127.0.0.1:0");
    let address = first.addresses()[0].to_string();
    let mut alice = open("alice2", &address, &["--with", "@bob2"]);
    alice.shows("● alice2 at");
    first.stop().unwrap();
    alice.until("lost", |screen| !screen.contains("● alice2 at"));
    alice.line("are you there?");
    alice.shows("are you there? …");
    alice.shows("1 waits to be sent");
    let second = broker(&address);
    // At once, and not when its turn comes.
    alice.press("\x12");
    alice.until("stored", |screen| screen.contains("are you there? ✓"));
    alice.leave();
    second.stop().unwrap();
}

#[test]
fn a_slip_of_the_command_line_is_told_with_how_it_goes() {
    let said = Command::new(example()).args(["--nonsense"]).output().unwrap();
    let said_text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(64));
    assert!(said_text.contains("unknown option --nonsense") && said_text.contains("usage: chat"));
    let help = Command::new(example()).arg("--help").output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--user YOU"));
}
