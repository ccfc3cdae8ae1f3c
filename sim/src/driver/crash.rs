//! Starts and ends of the process: killed, without power, on a disk that fails, or in order.

use std::time::Duration;

use tidings_core::record::RowKind;

use super::Sim;
use crate::disk::Trouble;
use crate::process::{Around, Process};
use crate::wire;

/// How many starts may fail, one after the other, before one has to succeed.
const STARTS_BROKEN_MAX: usize = 3;

impl Sim {
    /// Starts the process on what there is. Now and then it is killed before it is up.
    pub(super) fn start(&mut self) {
        let first = self.tally.crashes == 0 && self.tally.stops == 0;
        for broken in 0.. {
            if !first && broken < STARTS_BROKEN_MAX && self.rng.one_in(5) {
                let trouble = if self.rng.one_in(4) { Trouble::Error } else { Trouble::Outage };
                let operations = self.rng.below(20) as u64;
                self.machine.disk.break_after(operations, trouble);
            }
            let Self { machine, links, trace, cast, rng, .. } = self;
            let mut around = Around { links, trace, witness: cast, rng };
            match Process::start(machine, self.shards, &mut around) {
                Ok(process) => {
                    self.process = Some(process);
                    return;
                }
                Err(error) => {
                    let broken = machine.disk.fails().is_some();
                    assert!(broken, "cannot start again: {error}");
                    self.trace.note("start failed", 0, error.to_string().as_bytes());
                    self.end();
                }
            }
        }
    }

    /// The process is gone, by a kill or a power cut, and starts again.
    pub(super) fn crash(&mut self) {
        self.end();
        self.begin_again();
    }

    /// Something on the disk is about to fail.
    pub(super) fn break_soon(&mut self) {
        let trouble =
            [Trouble::Outage, Trouble::Outage, Trouble::Error, Trouble::Full][self.rng.below(4)];
        let operations = self.rng.below(30) as u64;
        self.machine.disk.break_after(operations, trouble);
    }

    /// The store has failed, and with it the process.
    pub(super) fn failed(&mut self, why: &str) {
        let broken = self.machine.disk.fails().is_some();
        assert!(broken, "the store failed on a disk that is whole: {why}");
        self.trace.note("failed", 0, why.as_bytes());
        self.tally.disk_errors += 1;
        self.crash();
    }

    fn end(&mut self) {
        let power = self.rng.one_in(2);
        self.trace.note(if power { "power cut" } else { "kill" }, 0, &[]);
        self.tally.crashes += 1;
        self.tally.power_cuts += u64::from(power);
        if let Some(process) = self.process.take() {
            self.tally.checkpoints += process.checkpoints();
        }
        if power {
            self.machine.disk.cut_power();
        } else {
            self.machine.disk.kill();
        }
        self.store.crash();
        self.hang_up();
        // A crash may fall between what became of a will and its end: it comes twice then.
        self.wills_from = self.cast.promises.entries.len();
    }

    /// Every connection is over; some of what was written may still arrive.
    fn hang_up(&mut self) {
        for id in 0..self.links.len() {
            if self.links[id].server_gone {
                continue;
            }
            let arrives = self.rng.below(self.links[id].down.len() + 1);
            let link = &mut self.links[id];
            link.server_gone = true;
            link.up.clear();
            link.down.truncate(arrives);
        }
        // Clients hear of what still arrives first.
        for id in 0..self.links.len() {
            while self.carry_down(id) {}
        }
        self.links.retain(|link| !link.is_over());
        assert!(self.links.is_empty(), "a link outlives its server");
        self.cast.crashed();
    }

    /// The clock may have been set, and the number of shards too.
    fn begin_again(&mut self) {
        let millis = [0, 50, 5_000, 3_600_000][self.rng.below(4)];
        if self.rng.one_in(3) {
            self.trace.now = self.trace.now - Duration::from_millis(millis);
        } else {
            self.trace.now = self.trace.now + Duration::from_millis(millis);
        }
        for subscriber in self.cast.subscribers.iter_mut().filter(|it| it.brief) {
            subscriber.may_be_gone = true;
        }
        if self.rng.one_in(3) {
            self.shards = [1, 2, 3, 4][self.rng.below(4)];
        }
        self.start();
    }

    /// The process is asked to stop, does so in order, and starts again.
    pub(super) fn stop(&mut self) {
        self.machine.disk.kill();
        let Some(process) = &mut self.process else { return };
        process.stop();
        self.trace.note("stopping", 0, &[]);
        self.settle();
        let Some(process) = self.process.take() else { return };
        assert!(process.is_stopped(), "connections outlive the stop");
        self.tally.checkpoints += process.checkpoints();
        self.tally.stops += 1;
        let stopped = process.shutdown();
        assert!(stopped.is_ok(), "cannot stop: {stopped:?}");
        // Whatever was heard is safe now.
        for subscriber in &mut self.cast.subscribers {
            for until in subscriber.settled.values_mut() {
                *until = None;
            }
        }
        self.store.crash();
        self.hang_up();
        self.begin_again();
        self.check_wills();
    }

    /// Behind an orderly stop no session keeps a will that somebody has heard, of a connection from
    /// behind the last crash: it would come again.
    fn check_wills(&self) {
        let Some(process) = &self.process else { panic!("no process behind a stop") };
        let rows = process.rows();
        let Ok(rows) = rows else { panic!("rows cannot be read: {rows:?}") };
        for row in rows.iter().filter(|row| row.key[1] == RowKind::Session as u8) {
            for number in wire::marks(&row.value).filter(|it| *it >= self.wills_from) {
                let heard = self.cast.subscribers.iter().find(|it| it.heard.contains(&number));
                let name = heard.map(|it| &it.name);
                assert!(name.is_none(), "will {number} is kept, and {name:?} has heard it");
            }
        }
    }
}
