//! Two programs with the SDK over a network that does harm, while they and the broker are killed:
//! nothing is lost, nothing comes twice, all of it is in order, and every tick is reached.

use crate::fake::TempDir;
use crate::proxy::Proxy;
use crate::role::{Role, start_broker};
use std::time::{Duration, Instant};
use tidings_client::{Client, ConnectOptions, Entry, EntryKind, Ticks};

struct Storm {
    messages: u64,
    kills: u64,
    /// The shortest time between two of them.
    pause_ms: u64,
    groups: u64,
    seed: u64,
}

#[test]
fn nothing_is_lost_or_doubled_over_a_bad_network_and_crashes() {
    Storm { messages: 1_000, kills: 4, pause_ms: 300, groups: 4, seed: 1 }.run();
}

/// `cargo test --release -p tidings-client --test it storm -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_messages_over_a_bad_network_and_crashes() {
    let messages = std::env::var("MESSAGES").ok().and_then(|it| it.parse().ok()).unwrap_or(50_000);
    Storm { messages, kills: 90, pause_ms: 1_000, groups: 24, seed: 2 }.run();
}

impl Storm {
    fn run(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let (broker_dir, dirs) = (TempDir::new(), [TempDir::new(), TempDir::new()]);
        std::fs::create_dir_all(&broker_dir.0).unwrap();
        let (mut broker, address) = start_broker(&broker_dir.0);
        runtime.block_on(self.make_groups(address));
        let proxy = runtime.block_on(Proxy::start(address, self.seed));
        let program = |user: usize| {
            let (name, other) = if user == 0 { ("alice", "bob") } else { ("bob", "alice") };
            let directory = dirs[user].0.to_str().unwrap();
            std::fs::create_dir_all(directory).unwrap();
            let mut chats: Vec<String> = (0..self.groups).map(|n| format!("g{n}")).collect();
            chats.push(format!("@{other}"));
            let (address, messages) = (proxy.address, self.messages);
            let chats = chats.join(" ");
            Role::start("as_program", &format!("{name} {directory} {address} {messages} {chats}"))
        };
        let mut programs = [program(0), program(1)].map(Some);
        for program in programs.iter_mut().flatten() {
            program.line("online");
        }
        for program in programs.iter_mut().flatten() {
            program.say("go");
        }
        let begun = Instant::now();
        for kill in 0..self.kills {
            // Not a wait for something: how long they are left alone.
            std::thread::sleep(Duration::from_millis(self.pause_ms + kill % 5 * 250));
            let which = usize::try_from(kill % 3).unwrap();
            if which == 2 {
                broker.kill();
                let (again, address) = start_broker(&broker_dir.0);
                broker = again;
                proxy.lead_to(address);
            } else {
                programs[which].take().unwrap().kill();
                let mut again = program(which);
                again.say("go");
                programs[which] = Some(again);
            }
        }
        for program in programs.iter_mut().flatten() {
            program.line("sent");
        }
        println!("all sent after {:?}, {} cuts", begun.elapsed(), proxy.cuts());
        assert!(proxy.cuts() > 0, "a network that does no harm is no test");
        proxy.calm();
        for mut program in programs.into_iter().flatten() {
            program.say("stop");
            println!("sent, packets and bytes: {}", program.line("traffic"));
            println!("received, packets and bytes: {}", program.line("received"));
            program.line("stopped");
        }
        runtime.block_on(self.check(&dirs, proxy.address));
        drop(broker);
    }

    async fn make_groups(&self, address: std::net::SocketAddr) {
        let options = ConnectOptions::new(address.to_string(), "alice", "setup").in_memory();
        let client = Client::connect(options).await.unwrap();
        for group in 0..self.groups {
            let group = client.chat(&format!("g{group}")).unwrap();
            group.create("", &["bob"]).await.unwrap().stored().await.unwrap();
        }
        // No strangers: those hear no ticks.
        client.accept(&["bob"]).await.unwrap().stored().await.unwrap();
        client.close().await;
        let options = ConnectOptions::new(address.to_string(), "bob", "setup").in_memory();
        let client = Client::connect(options).await.unwrap();
        client.accept(&["alice"]).await.unwrap().stored().await.unwrap();
        client.close().await;
    }

    /// What each device has in the end, and the ticks that each sees.
    async fn check(&self, dirs: &[TempDir; 2], address: std::net::SocketAddr) {
        let mut logs = Vec::new();
        let mut clients = Vec::new();
        for (user, dir) in ["alice", "bob"].into_iter().zip(dirs) {
            let options = ConnectOptions::new(address.to_string(), user, format!("{user}-phone"));
            clients.push(Client::connect(options.data_dir(&dir.0)).await.unwrap());
        }
        self.settle(&clients).await;
        for client in &clients {
            let other = if client.user() == "alice" { "@bob" } else { "@alice" };
            let mut of_user = Vec::new();
            let groups = (0..self.groups).map(|group| format!("g{group}"));
            for name in groups.chain([other.to_owned()]) {
                of_user.push(self.entries(client, &name));
            }
            logs.push(of_user);
        }
        let lanes = self.groups + 1;
        for (lane, (alices, bobs)) in logs[0].iter().zip(&logs[1]).enumerate() {
            let seqs = |log: &[Entry]| log.iter().map(|entry| entry.seq).collect::<Vec<_>>();
            assert_eq!(seqs(alices), seqs(bobs), "lane {lane}");
            for (one, two) in alices.iter().zip(bobs) {
                assert_eq!((&one.from, &one.body), (&two.from, &two.body), "{one:?} {two:?}");
            }
            for user in ["alice", "bob"] {
                let of = |entry: &&Entry| entry.from == user && entry.kind == EntryKind::Message;
                let numbers: Vec<u64> = alices
                    .iter()
                    .filter(of)
                    .map(|entry| entry.body.text().unwrap().parse().unwrap())
                    .collect();
                let lane = lane as u64;
                let expected: Vec<u64> = (0..self.messages).filter(|n| n % lanes == lane).collect();
                assert_eq!(numbers, expected, "{user} in {lane}: lost, doubled or out of order");
            }
        }
        for client in clients {
            client.close().await;
        }
    }

    fn entries(&self, client: &Client, chat: &str) -> Vec<Entry> {
        let chat = client.chat(chat).unwrap();
        let standing = chat.standing();
        assert_eq!(standing.unread, 0, "{standing:?}");
        let all = chat.entries(1..=standing.last, usize::MAX).unwrap();
        assert_eq!(standing.in_order, standing.last, "{standing:?}");
        all
    }

    /// Until each has read all that the other has, and knows that of the other.
    async fn settle(&self, clients: &[Client]) {
        let patience = Instant::now() + Duration::from_secs(120);
        let all = self.groups * (self.messages * 2 / (self.groups + 1));
        loop {
            let mut there = true;
            let mut places = Vec::new();
            for client in clients {
                let chats = client.chats();
                for standing in &chats {
                    let chat = client.chat(&standing.chat).unwrap();
                    chat.mark_all_read().await.unwrap();
                    there &= standing.unread == 0 && standing.in_order == standing.last;
                    // Nobody is told how far others are with their own.
                    let page = chat.page(None, 200).unwrap();
                    let own = page.iter().rfind(|message| message.ticks != Ticks::None);
                    there &= own.is_none_or(|message| message.ticks == Ticks::Read);
                }
                places.push(chats.iter().map(|standing| standing.last).sum::<u64>());
            }
            if there && places[0] == places[1] && places[0] >= all {
                return;
            }
            let standings: Vec<_> = clients.iter().map(Client::chats).collect();
            assert!(Instant::now() < patience, "{standings:?}");
            let mut changes = clients[0].changes();
            let _ = tokio::time::timeout(Duration::from_millis(200), changes.next()).await;
        }
    }
}
