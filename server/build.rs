//! Builds the web page with npm and lays it into the binary. Without npm the server builds all the same: it then
//! says in place of the page what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// What the page is made of; changes of anything else do not build it anew.
const SOURCES: [&str; 8] = [
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
    ".npmrc",
];

fn main() {
    let web = Path::new("web");
    for source in SOURCES {
        // A path that is not there would build anew each time.
        if web.join(source).exists() {
            println!("cargo:rerun-if-changed=web/{source}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=OTUS_WEB_SKIP");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let listing = match build(web, &out.join("web")) {
        Ok(listing) => listing,
        Err(problem) => {
            println!("cargo:warning=the web page is not built: {problem}");
            format!(
                "pub(super) static FILES: &[File] = &[];\npub(super) static PROBLEM: Option<&str> = Some({problem:?});\n"
            )
        }
    };
    if let Err(error) = fs::write(out.join("page.rs"), listing) {
        println!("cargo:error=the list of the page's files cannot be written: {error}");
    }
}

/// Builds the page into `to`; gives the list of its files as Rust.
fn build(web: &Path, to: &Path) -> Result<String, String> {
    if env::var_os("OTUS_WEB_SKIP").is_some_and(|value| value != "0" && !value.is_empty()) {
        return Err("OTUS_WEB_SKIP is set".to_owned());
    }
    if !installed(web) {
        run(web, "npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"], to)?;
    }
    run(web, "npm", &["run", "--silent", "build", "--", "--emptyOutDir", "--outDir"], to)?;
    list(to).map_err(|error| format!("{}: {error}", to.display()))
}

/// Whether what the lock file names is there.
fn installed(web: &Path) -> bool {
    let changed = |path: PathBuf| fs::metadata(path).and_then(|about| about.modified());
    let lock = changed(web.join("package-lock.json"));
    let there = changed(web.join("node_modules/.package-lock.json"));
    matches!((lock, there), (Ok(lock), Ok(there)) if lock <= there)
}

/// Runs a program in the page's folder; all but `npm ci` are told where the page goes.
fn run(web: &Path, program: &str, args: &[&str], to: &Path) -> Result<(), String> {
    let mut command = Command::new(program);
    command.current_dir(web).args(args);
    if args.first() != Some(&"ci") {
        command.arg(to);
    }
    let told = || format!("{program} {}", args.join(" "));
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{program} is not installed (Node.js 20 or newer builds the page)")
        }
        _ => format!("{}: {error}", told()),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let end: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = end.get(end.len().saturating_sub(12)..).unwrap_or_default().join(" | ");
    Err(format!("{} failed: {end}", told()))
}

/// All files of a folder with what they are compressed to, as Rust.
fn list(folder: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    gather(folder, &mut files)?;
    files.sort();
    let mut out = String::from(
        "pub(super) static PROBLEM: Option<&str> = None;\npub(super) static FILES: &[File] = &[\n",
    );
    for path in files.iter().filter(|path| !is_compressed(path)) {
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let packed = |extension: &str| {
            let mut packed = path.clone().into_os_string();
            packed.push(extension);
            let packed = PathBuf::from(packed);
            match packed.exists() {
                true => format!("Some(include_bytes!({:?}))", packed.display().to_string()),
                false => "None".to_owned(),
            }
        };
        let whole = path.display().to_string();
        let (brotli, gzip) = (packed(".br"), packed(".gz"));
        let file = format!(
            "File {{ name: {name:?}, plain: include_bytes!({whole:?}), brotli: {brotli}, gzip: {gzip} }}"
        );
        out.push_str("    ");
        out.push_str(&file);
        out.push_str(",\n");
    }
    out.push_str("];\n");
    Ok(out)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "br" || extension == "gz")
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => gather(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
