//! What a process takes, as Linux tells it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What a process took since it began; differences of two are what a measurement took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Of each thread, nanoseconds on a processor.
    threads: BTreeMap<u32, u64>,
    /// Nanoseconds on a processor of all threads, also of those that ended, rounded to ticks.
    rounded: u64,
    /// Context switches: it waited, or it was made to wait.
    pub(crate) switches: (u64, u64),
    /// Resident memory, now and the most.
    pub(crate) rss_kib: (u64, u64),
    /// Bytes given to a disk.
    pub(crate) written: Option<u64>,
}

fn read(pid: u32, name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{name}")).ok()
}

/// The number behind a name at the start of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Usage {
    /// Of a process now; nothing if there is none.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let mut usage = Self { rounded: stat_ns(&read(pid, "stat")?)?, ..Self::default() };
        let status = read(pid, "status")?;
        usage.rss_kib = (
            value(&status, "VmRSS:").unwrap_or_default(),
            value(&status, "VmHWM:").unwrap_or_default(),
        );
        usage.written = read(pid, "io").and_then(|io| value(&io, "write_bytes:"));
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let name = task.file_name();
            let Some(thread) = name.to_str().and_then(|it| it.parse().ok()) else { continue };
            let (path, text) = (task.path(), |path: &Path| fs::read_to_string(path).ok());
            if let Some(ns) = text(&path.join("schedstat")).and_then(|it| first_number(&it)) {
                usage.threads.insert(thread, ns);
            }
            let status = text(&path.join("status")).unwrap_or_default();
            usage.switches.0 += value(&status, "voluntary_ctxt_switches:").unwrap_or_default();
            usage.switches.1 += value(&status, "nonvoluntary_ctxt_switches:").unwrap_or_default();
        }
        Some(usage)
    }

    /// Nanoseconds on a processor since `before`.
    pub(crate) fn cpu_ns_since(&self, before: &Self) -> u64 {
        let ended = before.threads.keys().any(|thread| !self.threads.contains_key(thread));
        if ended || self.threads.is_empty() {
            return self.rounded.saturating_sub(before.rounded);
        }
        let sum = |usage: &Self| usage.threads.values().sum::<u64>();
        sum(self).saturating_sub(sum(before))
    }

    /// The same of the thread that took the most.
    pub(crate) fn busiest_ns_since(&self, before: &Self) -> u64 {
        let since = |(thread, ns): (&u32, &u64)| {
            ns.saturating_sub(before.threads.get(thread).copied().unwrap_or_default())
        };
        self.threads.iter().map(since).max().unwrap_or_default()
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Linux counts in hundredths of a second there, whatever its own clock is.
const TICK_NS: u64 = 10_000_000;

/// User and system time of a `stat`; its second field may hold anything, in brackets.
fn stat_ns(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * TICK_NS)
}

/// Nanoseconds that the processors of this machine have been busy, with whatever it was.
pub(crate) fn machine_ns() -> Option<u64> {
    busy_ns(&fs::read_to_string("/proc/stat").ok()?)
}

/// The first line of a `stat`: user, nice, system, idle, waiting for disks, interrupts of two kinds,
/// and what other machines on this one took.
fn busy_ns(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks = fields.enumerate().filter(|(nth, _)| !matches!(nth, 3 | 4));
    let sum: Option<u64> = ticks.map(|(_, field)| field.parse::<u64>().ok()).sum();
    Some(sum? * TICK_NS)
}

/// How many files a process may have open.
pub(crate) fn files_max(pid: u32) -> Option<u64> {
    value(&read(pid, "limits")?, "Max open files")
}

/// Kills a process, and waits until it has let go of its files and ports.
pub(crate) fn kill(pid: u32) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("process {pid} cannot be killed: {why}");
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| failed(&"there is none with this number"))?;
    kill_process(number, Signal::KILL).map_err(|error| failed(&error))?;
    let until = Instant::now() + Duration::from_secs(10);
    while !is_gone(pid) {
        if Instant::now() > until {
            return Err(failed(&"it is still there"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether there is nothing of a process but what its parent has not looked at.
fn is_gone(pid: u32) -> bool {
    let Some(stat) = read(pid, "stat") else { return true };
    let zombie = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    zombie && threads <= 1
}

/// The process that listens on a port of this machine, as far as we may see it.
pub(crate) fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).ok());
    let sockets: Vec<_> = tables.iter().flatten().flat_map(|it| inodes(it, port)).collect();
    if sockets.is_empty() {
        return None;
    }
    let wanted: Vec<_> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let links = open.filter_map(|it| fs::read_link(it.path()).ok());
        if links
            .filter_map(|it| it.into_os_string().into_string().ok())
            .any(|it| wanted.contains(&it))
        {
            return Some(pid);
        }
    }
    None
}

/// Inodes of the sockets that listen on a port, of a table of the kernel.
fn inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTENS: &str = "0A";
    let wanted = format!(":{port:04X}");
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let here = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == LISTENS;
        here.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_time_of_a_process_with_an_odd_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 300";
        assert_eq!(stat_ns(stat), Some(2_000_000_000));
    }

    #[test]
    fn a_machine_is_busy_with_all_but_waiting() {
        let stat = "cpu  1 2 3 1000 1000 4 5 6 700 0\ncpu0 9 9 9 9\n";
        assert_eq!(busy_ns(stat), Some(21 * TICK_NS));
        assert!(machine_ns().is_some());
    }

    #[test]
    fn who_listens_is_found() {
        let table = "  sl  local_address rem_address st tx rx tr tm retrnsmt uid timeout inode\n   \
                     0: 0100007F:075B 00000000:0000 0A 0:0 00:0 0 0 0 4711 1\n   \
                     1: 0100007F:075B 0100007F:9000 01 0:0 00:0 0 0 0 4712 1\n";
        assert_eq!(inodes(table, 1883), [4711]);
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(here.local_addr().unwrap().port()), Some(std::process::id()));
    }

    #[test]
    fn a_killed_process_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        assert!(!is_gone(child.id()));
        kill(child.id()).unwrap();
        assert!(is_gone(child.id()), "also while its parent has not looked");
        child.wait().unwrap();
        assert!(kill(child.id()).unwrap_err().contains("cannot be killed"));
    }

    #[test]
    fn our_own_time_goes_up() {
        let before = Usage::of(std::process::id()).unwrap();
        assert!(files_max(std::process::id()).is_some_and(|it| it > 0));
        assert!(before.rss_kib.0 > 0 && before.rss_kib.1 >= before.rss_kib.0);
        let mut after = before.clone();
        let thread = *before.threads.keys().next().unwrap();
        *after.threads.get_mut(&thread).unwrap() += 5;
        assert_eq!((after.cpu_ns_since(&before), after.busiest_ns_since(&before)), (5, 5));
        // A thread that ended took its time with it: the rounded sum has it.
        after.threads.remove(&thread);
        after.rounded += TICK_NS;
        assert_eq!(after.cpu_ns_since(&before), TICK_NS);
    }
}
