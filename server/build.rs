//! Puts the files of the app in the browser into the binary, as they are and made small.
//!
//! They are in `web/dist`, built of the sources beside it. Without them there is a page that says so.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/dist");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    if dist.is_dir() {
        walk(&dist, &dist, &mut files)?;
    }
    if !files.iter().any(|(path, _)| path == "/index.html") {
        files.push(("/index.html".into(), NO_APP.into()));
    }
    files.sort();
    let mut table = String::from("&[\n");
    for (number, (path, bytes)) in files.iter().enumerate() {
        let write = |kind: &str, bytes: &[u8]| -> Result<String, Box<dyn Error>> {
            let file = out.join(format!("{number}.{kind}"));
            fs::write(&file, bytes)?;
            Ok(format!("include_bytes!({:?})", file.display().to_string()))
        };
        let (kind, is_text) = kind(path);
        let plain = write("plain", bytes)?;
        let small = |kind: &str, small: Vec<u8>| -> Result<String, Box<dyn Error>> {
            // What is hardly smaller is not worth unpacking.
            let is_worth_it = is_text && small.len() < bytes.len() / 10 * 9;
            Ok(if is_worth_it { format!("Some({})", write(kind, &small)?) } else { "None".into() })
        };
        let (br, gz) = (small("br", brotli(bytes)?)?, small("gz", gzip(bytes)?)?);
        let mut hash = DefaultHasher::new();
        bytes.hash(&mut hash);
        let tag = hash.finish();
        writeln!(
            table,
            "File {{ path: {path:?}, kind: {kind:?}, tag: \"\\\"{tag:016x}\\\"\", \
             plain: {plain}, br: {br}, gzip: {gz} }},"
        )?;
    }
    table.push(']');
    fs::write(out.join("app.rs"), table)?;
    Ok(())
}

fn walk(dir: &Path, root: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", dir.display());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, root, files)?;
            continue;
        }
        let name = path.strip_prefix(root)?.to_str().ok_or("a name that is no text")?;
        files.push((format!("/{name}"), fs::read(&path)?));
    }
    Ok(())
}

/// The media type by the name, and whether it is worth making smaller.
fn kind(path: &str) -> (&'static str, bool) {
    match path.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => ("text/html; charset=utf-8", true),
        "js" | "mjs" => ("text/javascript; charset=utf-8", true),
        "css" => ("text/css; charset=utf-8", true),
        "svg" => ("image/svg+xml", true),
        "json" | "map" => ("application/json", true),
        "webmanifest" => ("application/manifest+json", true),
        "txt" => ("text/plain; charset=utf-8", true),
        "wasm" => ("application/wasm", true),
        "png" => ("image/png", false),
        "webp" => ("image/webp", false),
        "ico" => ("image/vnd.microsoft.icon", false),
        "woff2" => ("font/woff2", false),
        "mp3" => ("audio/mpeg", false),
        _ => ("application/octet-stream", false),
    }
}

fn brotli(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut small = Vec::new();
    brotli::CompressorWriter::new(&mut small, 4096, 11, 22).write_all(bytes)?;
    Ok(small)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}

const NO_APP: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Tidings</title>\n\
    <p>This Tidings was built without its app. <code>npm run build</code> in the folder \
    <code>web</code> makes it; then build Tidings again.</p></html>\n";
