//! `tidings backup` and `tidings restore`: copies of the store in one file.
//!
//! What lies beside the store, users, rights and certificates, is the administrator's own and small: it
//! is copied by other means. The keys of chats are not: a copy of the store cannot be read without
//! them, so they go into a second file beside it, after what they open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tidings_broker::base::Totals;
use tidings_broker::engine::{self, CopyError, OpenError};

use crate::cli::{BackupArgs, ConfigArgs, RestoreArgs};
use crate::exit::{self, Exit, Failure};
use crate::progress::Progress;
use crate::vault;

/// Writes a copy.
pub(crate) fn backup(args: &BackupArgs) -> Result<(), Failure> {
    let folder = store_of(&args.place)?;
    let mut progress = Progress::new();
    let mut show = |totals: Totals| progress.show(|| summary("copied", totals));
    if args.file == Path::new("-") {
        let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        let totals = engine::backup(&folder, out, &args.file, &mut show).map_err(failure)?;
        drop(progress);
        eprintln!("{}", summary("copied", totals));
        let keys = keys_of(&folder);
        if keys.exists() {
            eprintln!("chats cannot be read without their keys: copy {} too", keys.display());
        }
        return Ok(());
    }
    // Under its name there is a whole copy, or the one from before.
    let mut part = args.file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let cannot = |what: &str, error: io::Error| {
        Failure::new(Exit::CannotCreate, format_args!("cannot {what} {}: {error}", part.display()))
    };
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
    let file = file.map_err(|error| cannot("write", error))?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, &file);
    let copied = engine::backup(&folder, out, &part, &mut show).map_err(|error| {
        // A part of a copy helps nobody.
        let _gone = fs::remove_file(&part);
        failure(error)
    });
    drop(progress);
    let totals = copied?;
    file.sync_all().map_err(|error| cannot("sync", error))?;
    fs::rename(&part, &args.file).map_err(|error| cannot("rename", error))?;
    let keys = keys_of(&folder);
    if keys.exists() {
        copy_keys(&keys, &beside(&args.file))?;
    }
    exit::print(&format!("{} to {}\n", summary("copied", totals), args.file.display()))
}

/// Makes a store of a copy.
pub(crate) fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    let folder = args.dir.join("store");
    let input: Box<dyn Read> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&args.file).map_err(|error| {
            let file = args.file.display();
            Failure::new(Exit::Io, format_args!("cannot open {file}: {error}"))
        })?)
    };
    let input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut progress = Progress::new();
    let mut show = |totals: Totals| progress.show(|| summary("restored", totals));
    let restored = engine::restore(input, &args.file, &folder, &mut show).map_err(failure);
    drop(progress);
    let totals = restored?;
    let (from, to) = (beside(&args.file), keys_of(&folder));
    if from.exists() {
        copy_keys(&from, &to)?;
    } else if !to.exists() {
        let (from, to) = (from.display(), to.display());
        eprintln!("there is no {from}: what chats keep is sealed, so put their keys to {to}");
    }
    exit::print(&format!("{} to {}\n", summary("restored", totals), folder.display()))
}

/// Where the keys of chats are that a store needs.
fn keys_of(store: &Path) -> PathBuf {
    store.with_file_name(vault::NAME)
}

/// Where they are that a copy needs.
fn beside(copy: &Path) -> PathBuf {
    let mut name = copy.as_os_str().to_owned();
    name.push(".");
    name.push(vault::NAME);
    PathBuf::from(name)
}

/// Copies keys.
fn copy_keys(from: &Path, to: &Path) -> Result<(), Failure> {
    let copied = || {
        let mut options = OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(to)?;
        io::copy(&mut File::open(from)?, &mut out)?;
        out.sync_all()
    };
    copied().map_err(|error| {
        let (from, to) = (from.display(), to.display());
        Failure::new(Exit::CannotCreate, format_args!("cannot copy {from} to {to}: {error}"))
    })
}

fn summary(what: &str, totals: Totals) -> String {
    let Totals { rows, records, last, bytes, .. } = totals;
    format!("{what} {rows} rows and {records} records, up to record {last}; {bytes} bytes")
}

/// The folder of the store in a data folder, or in the one that a configuration file names.
pub(crate) fn store_of(place: &Path) -> Result<PathBuf, Failure> {
    if place.is_file() {
        let config = Some(place.to_path_buf());
        let settings = ConfigArgs { config, ..ConfigArgs::default() }.load();
        let settings = settings.map_err(|error| Failure::new(Exit::Config, error))?;
        return Ok(settings.config.data.dir.join("store"));
    }
    let store = place.join("store");
    // Who names the store itself means it.
    Ok(if !store.exists() && place.join("VERSION").exists() { place.to_path_buf() } else { store })
}

fn failure(error: CopyError) -> Failure {
    let exit = match &error {
        CopyError::Open(error) => exit_of(error),
        CopyError::NotEmpty { .. } => Exit::CannotCreate,
        CopyError::Base(_) | CopyError::Journal(_) | CopyError::NotACopy { .. } => Exit::Data,
        CopyError::NoBase { .. } => Exit::InUse,
        _ => Exit::Io,
    };
    Failure::new(exit, error)
}

/// How a command ends that cannot open a store.
pub(crate) fn exit_of(error: &OpenError) -> Exit {
    match error {
        OpenError::InUse { .. } => Exit::InUse,
        OpenError::NoStore { .. }
        | OpenError::NotAStore { .. }
        | OpenError::FormatVersion { .. } => Exit::Data,
        _ => Exit::Io,
    }
}

const BUFFER_BYTES: usize = 1 << 20;
