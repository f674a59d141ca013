//! Calls `tests/stack/stack`, allocates ports and owns the run directory.
//!
//! Not here: the settings of servers (`postgres`, `elasticsearch`).

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// The directory of the servers and child processes of this process.
struct RunDirectory {
    path: PathBuf,
    /// The guard detects the end of this process by the end of its standard input.
    _guard: Child,
}

static RUN_DIRECTORY: LazyLock<RunDirectory> = LazyLock::new(RunDirectory::create);
static SERIAL: AtomicU32 = AtomicU32::new(1);

/// The first port. The ports are below the kernel's range for outgoing connections, so that the
/// port of a stopped server stays free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
static NEXT_PORT: LazyLock<AtomicU16> =
    LazyLock::new(|| AtomicU16::new(fastrand::u16(PORTS.start..PORTS.end)));

impl RunDirectory {
    fn create() -> Self {
        let name = format!("walferry-test-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the temporary directory can be written");
        // If this account is root, PostgreSQL runs as another one.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("a directory just made is ours");
        let guard = Command::new(stack_path())
            .arg("guard")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C in the terminal does not reach it
            .spawn()
            .expect("tests/stack/stack can be run");
        Self { path, _guard: guard }
    }
}

/// A new directory for a server or a child process. It is removed after the test binary ends.
pub(crate) fn new_directory(kind: &str) -> PathBuf {
    let path = new_path(kind);
    std::fs::create_dir(&path).expect("the run directory can be written");
    path
}

/// Writes `text` to a new file called `name`, which is removed after the test binary ends, and returns its path.
pub(crate) fn new_file(name: &str, text: &str) -> String {
    let path = new_directory("file").join(name);
    std::fs::write(&path, text).expect("the run directory can be written");
    path.into_os_string().into_string().expect("the run directory's path is UTF-8")
}

/// A unique path in the run directory.
pub(crate) fn new_path(kind: &str) -> PathBuf {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    RUN_DIRECTORY.path.join(format!("{kind}-{serial}"))
}

/// A free loopback port. Each port is returned once.
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

/// Runs `stack ARGUMENTS` and returns its output.
///
/// # Errors
/// The output, if the command fails.
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

/// [`stack_blocking`] on a thread outside of the runtime.
pub(crate) async fn stack(arguments: Vec<String>) -> Result<(), String> {
    tokio::task::spawn_blocking(move || {
        stack_blocking(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    })
    .await
    .expect("running a command does not panic")
}

/// Sends a signal by its name (`KILL`, `TERM`, `STOP`, …) to a child process.
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

/// Writes a line to the output of the test.
pub(crate) fn note(text: &str) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "{text}").expect("standard error is open");
}

/// A path as text for a command line.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("temporary directories have plain names").to_owned()
}

fn stack_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stack/stack")
}
