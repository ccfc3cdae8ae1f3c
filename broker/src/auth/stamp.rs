//! What tells one content of a file from another, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

/// Inode, length and time. A rename in its place changes the first, even where the clock of the file
/// system is too coarse.
pub(crate) type Stamp = (u64, u64, Option<SystemTime>);

/// The stamp of a file.
pub(crate) fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.ino(), metadata.len(), metadata.modified().ok())
}
