//! What a process and a folder take.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

/// The memory of a process that is not shared with the disk's cache, in KiB.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) now_kib: u64,
    /// The most since it started.
    pub(crate) most_kib: u64,
}

impl Memory {
    /// Nothing if there is no such process.
    pub(crate) fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Self { now_kib: value("VmRSS:").unwrap_or(0), most_kib: value("VmHWM:").unwrap_or(0) }
    }
}

/// The size of a folder, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Size {
    /// Of its blocks on the disk.
    pub(crate) allocated: u64,
    /// As the lengths of its files say.
    pub(crate) apparent: u64,
}

impl Size {
    pub(crate) fn of(folder: &Path) -> Self {
        let mut size = Self::default();
        // A file may go while we look.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                let inner = Self::of(&entry.path());
                size.allocated += inner.allocated;
                size.apparent += inner.apparent;
            } else {
                size.allocated += metadata.blocks() * 512;
                size.apparent += metadata.len();
            }
        }
        size
    }
}
