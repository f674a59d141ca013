//! Calls `tests/stack/stack`, hands out ports, and owns the run directory.
//!
//! Not here: what a server's settings are (`postgres`, `elasticsearch`).

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// The directory of this process's servers and children.
struct RunDirectory {
    path: PathBuf,
    /// The end of its standard input tells the guard that this process is gone.
    _guard: Child,
}

static RUN_DIRECTORY: LazyLock<RunDirectory> = LazyLock::new(RunDirectory::create);
static SERIAL: AtomicU32 = AtomicU32::new(1);

/// Below the range the kernel takes for outgoing connections, so that a stopped server finds its
/// port free again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
static NEXT_PORT: LazyLock<AtomicU16> =
    LazyLock::new(|| AtomicU16::new(fastrand::u16(PORTS.start..PORTS.end)));

impl RunDirectory {
    fn create() -> Self {
        let name = format!("walferry-test-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the temporary directory can be written");
        // PostgreSQL runs as another account when this one is root.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("a directory just made is ours");
        let guard = Command::new(stack_path())
            .arg("guard")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // a Ctrl-C in the terminal is not for it
            .spawn()
            .expect("tests/stack/stack can be run");
        Self { path, _guard: guard }
    }
}

/// A new directory for a server or a child, gone when the test binary is.
pub(crate) fn new_directory(kind: &str) -> PathBuf {
    let path = new_path(kind);
    std::fs::create_dir(&path).expect("the run directory can be written");
    path
}

/// A file of `text`, gone when the test binary is; its path.
pub(crate) fn new_file(kind: &str, text: &str) -> String {
    let path = new_path(kind);
    std::fs::write(&path, text).expect("the run directory can be written");
    path.into_os_string().into_string().expect("the run directory's path is UTF-8")
}

/// A path nobody else was given, in the run directory.
pub(crate) fn new_path(kind: &str) -> PathBuf {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    RUN_DIRECTORY.path.join(format!("{kind}-{serial}"))
}

/// A loopback port that nobody listens on, given out once.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = NEXT_PORT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| {
                Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start })
            })
            .expect("the closure always answers");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs `stack ARGUMENTS` to its end.
///
/// # Errors
/// What it said, when it did not succeed.
pub(crate) fn stack_blocking(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(stack_path())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("tests/stack/stack could not be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("stack {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// [`stack_blocking`] beside the runtime.
pub(crate) async fn stack(arguments: Vec<String>) -> Result<(), String> {
    tokio::task::spawn_blocking(move || {
        stack_blocking(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    })
    .await
    .expect("running a command does not panic")
}

/// Sends a signal by its name (`KILL`, `TERM`, `STOP`, …) to a child of ours.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("sh is there");
    if !status.success() {
        note(&format!("SIG{name} found no process {pid}"));
    }
}

/// Tells the reader of a test's output something.
pub(crate) fn note(text: &str) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "{text}").expect("standard error is open");
}

/// `path` as text, for a command line.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("temporary directories have plain names").to_owned()
}

fn stack_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stack/stack")
}
