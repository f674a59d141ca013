//! Exit codes: those that the binary gives without a server, and those of a second signal.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::faults::{Fault, Faults};
use crate::support::launcher::signal;
use crate::support::{TestBed, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// A command line, what is set in its environment, and what stands on its standard input.
struct Case {
    line: &'static str,
    environment: &'static [(&'static str, &'static str)],
    input: &'static str,
}

const fn case(line: &'static str, environment: &'static [(&'static str, &'static str)]) -> Case {
    Case { line, environment, input: "" }
}

/// Nothing listens at port 1 of the loopback address.
const AWAY: (&str, &str) = ("DATABASE_URL", "postgres://walferry@127.0.0.1:1/app");
const SEARCH_AWAY: (&str, &str) = ("ELASTICSEARCH_URL", "http://127.0.0.1:1");

const CASES: &[Case] = &[
    case("", &[]),
    case("--help", &[]),
    case("--version", &[]),
    case("nonsense", &[]),
    case("check", &[]),
    case("check", &[AWAY, SEARCH_AWAY]),
    case("check --config /nowhere/walferry.toml", &[AWAY, SEARCH_AWAY]),
    case("check --set slot=Ä", &[AWAY, SEARCH_AWAY]),
    case("clear", &[AWAY]),
    case("discard --all", &[AWAY]),
    case("discard --all --reason old", &[AWAY]),
    case("healthcheck", &[("WALFERRY_LISTEN", "127.0.0.1:1")]),
    case("job 1", &[AWAY]),
    case("jobs", &[AWAY]),
    case("jobs --limit 0", &[AWAY]),
    case("maintain", &[AWAY]),
    case("migrate", &[AWAY]),
    case("openapi", &[]),
    case("rebuild", &[AWAY]),
    case("restore", &[AWAY]),
    case("retry --all", &[AWAY]),
    case("run", &[]),
    case("run", &[AWAY]),
    case("run", &[AWAY, SEARCH_AWAY, ("RUST_LOG", "=")]),
    case("run", &[AWAY, SEARCH_AWAY, ("WALFERRY_LISTEN", "0.0.0.0:0")]),
    case("run", &[AWAY, SEARCH_AWAY, ("WALFERRY_SLOTS", "a")]),
    case("start", &[AWAY]),
    case("status", &[AWAY]),
    case("stop", &[AWAY]),
    case("token create --name ci --role viewer", &[]),
    case("token create --name ci --role root", &[]),
    Case { line: "token hash", environment: &[], input: "no token\n" },
];

/// `walferry check, DATABASE_URL=…: 3`.
pub(crate) fn codes() -> BTreeSet<String> {
    CASES.iter().map(code).collect()
}

fn code(case: &Case) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walferry"));
    command.args(case.line.split_whitespace()).env_clear();
    command.envs(case.environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("walferry can be run");
    let mut input = child.stdin.take().expect("it is a pipe");
    // A command that reads nothing may have ended.
    drop(input.write_all(case.input.as_bytes()));
    drop(input);
    let code = child.wait().expect("a child can be waited for").code();
    let mut words = vec![format!("walferry {}", case.line).trim().to_owned()];
    words.extend(case.environment.iter().map(|(name, value)| format!("{name}={value}")));
    words.extend((!case.input.is_empty()).then(|| format!("input {:?}", case.input)));
    format!("{}: {}", words.join(", "), code.map_or("a signal".to_owned(), |c| c.to_string()))
}

/// With a bulk request that gets no answer, the first signal waits and the second one does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_has_an_exit_code_of_its_own() {
    for (name, expected) in [("INT", 130), ("TERM", 143)] {
        let bed = TestBed::new("twice").await;
        let faults = Faults::before(bed.servers.elasticsearch.url()).await;
        let launch = bed.walferry(&["run"]).env("ELASTICSEARCH_URL", &faults.url);
        let mut walferry = launch.env("WALFERRY_LIMITS_SHUTDOWN_GRACE", "5m").spawn();
        walferry.wait_output("\"load_done\",\"table\":\"public.categories\"", LIMIT).await;
        faults.always("/_bulk", Some(Fault::Hang));
        bed.sql.run("insert into categories (name, slug) values ('A', 'a')").await;
        let sql = "select count(*) from elasticsearch_sync_queue where status = 'processing'";
        eventually(LIMIT, "a job is in flight", async || {
            let jobs: i64 = bed.sql.value(sql, &[]).await;
            if jobs == 1 { Ok(()) } else { Err(format!("{jobs} jobs")) }
        })
        .await;
        signal(walferry.pid(), name);
        walferry.wait_output("\"event\":\"stopping\"", LIMIT).await;
        signal(walferry.pid(), name);
        assert_eq!(walferry.wait_exit(LIMIT).await, expected, "{}", walferry.output_end());
    }
}
