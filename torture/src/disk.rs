//! File systems of our own, in a file: one that a power cut hits, and one that is small.
//!
//! A power cut leaves on the disk what was written to the device, and nothing of what only the
//! file system's cache has. So the broker is killed, the file behind the loop device is copied at
//! once, without a sync, and the copy is mounted. The copy is not taken at one instant; with the
//! broker dead only the kernel's own writing back can fall into it.
//!
//! Takes the right to mount.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    folder: PathBuf,
    number: u32,
}

fn run(command: &mut Command) -> io::Result<()> {
    let done =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!("{:?}: {}", command.get_program(), said.trim())))
}

impl Disk {
    /// Makes an ext4 file system in the folder `place`, which must be empty.
    ///
    /// # Errors
    ///
    /// Also when this process may not mount.
    pub(crate) fn make(place: &Path, mebibytes: u64) -> io::Result<Self> {
        let image = place.join("image-0");
        File::create(&image)?.set_len(mebibytes << 20)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        Self::mount(place, image, 0)
    }

    fn mount(place: &Path, image: PathBuf, number: u32) -> io::Result<Self> {
        let folder = place.join(format!("mount-{number}"));
        fs::create_dir(&folder)?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&folder))?;
        Ok(Self { image, folder, number })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The disk as it is after the power was cut now.
    pub(crate) fn cut(self) -> io::Result<Self> {
        let number = self.number + 1;
        let place = self.image.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        let image = place.join(format!("image-{number}"));
        fs::copy(&self.image, &image)?;
        drop(self);
        Self::mount(&place, image, number)
    }

    /// Takes all the space there is; it is free again when the file is removed.
    pub(crate) fn fill(&self) -> io::Result<PathBuf> {
        let path = self.folder.join("ballast");
        let mut file = File::create(&path)?;
        for size in [1 << 20, 1 << 16, 1 << 12] {
            let piece = vec![0xA5; size];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.folder));
        let _ = fs::remove_file(&self.image);
        let _ = fs::remove_dir(&self.folder);
    }
}
