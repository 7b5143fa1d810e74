//! Keeps started processes from outliving the test run. A small shell reads process ids from a pipe; when the
//! pipe ends, because the run ended in whatever way, it stops those ids and removes the folders named to it.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

const SCRIPT: &str = r#"
pids=" "
folders=""
while read -r verb what; do
  case $verb in
    hold) pids="$pids$what " ;;
    free) pids=$(printf %s "$pids" | sed "s/ $what / /") ;;
    folder) folders="$folders$what
" ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
printf %s "$folders" | while read -r folder; do
  case $folder in */otus-test-*) rm -rf "$folder" ;; esac
done
"#;

struct Leash {
    pipe: ChildStdin,
    _shell: Child,
}

static LEASH: OnceLock<Option<Mutex<Leash>>> = OnceLock::new();

fn say(line: &str) {
    let leash = LEASH.get_or_init(|| {
        let mut shell =
            Command::new("sh").args(["-c", SCRIPT]).stdin(Stdio::piped()).spawn().ok()?;
        let pipe = shell.stdin.take()?;
        Some(Mutex::new(Leash { pipe, _shell: shell }))
    });
    if let Some(leash) = leash {
        let mut leash = leash.lock().unwrap_or_else(PoisonError::into_inner);
        leash.pipe.write_all(format!("{line}\n").as_bytes()).ok();
    }
}

/// Process `pid` ends with the run at the latest.
pub fn hold(pid: u32) {
    say(&format!("hold {pid}"));
}

/// Process `pid` has ended and been waited for.
pub fn free(pid: u32) {
    say(&format!("free {pid}"));
}

/// A temporary folder (its name begins with `otus-test-`) that lives as long as the run.
pub fn folder(path: &Path) {
    say(&format!("folder {}", path.display()));
}

/// A fresh temporary folder that is removed when the run ends.
pub fn fresh_folder(name: &str) -> std::io::Result<std::path::PathBuf> {
    let path = tempfile::Builder::new().prefix(&format!("otus-test-{name}-")).tempdir()?.keep();
    folder(&path);
    Ok(path)
}
