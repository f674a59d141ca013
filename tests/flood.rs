//! Floods of connections and of refused requests: the process lives, answers its probes, stays small,
//! and keeps its log and its audit log.
//!
//! Each flood here comes from one client without a credential, on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use walferry::api::auth::token;
use walferry::config::Role;

use crate::api::token_entry;
use crate::logs::assert_members_once;
use crate::support::TestBed;
use crate::support::launcher::note;
use crate::support::walferry::{Launch, Walferry};

/// More than all places that there are.
const CONNECTIONS: usize = 1_030;
/// The most that the process may ever hold.
const PEAK_MEBIBYTES_MAX: u64 = 64;
const LIMIT: Duration = Duration::from_secs(60);

/// A process whose PostgreSQL and Elasticsearch do not answer.
async fn alone() -> (Walferry, SocketAddr) {
    let walferry = Launch::new(&["run"])
        .env("DATABASE_URL", "postgres://walferry@127.0.0.1:1/app")
        .env("ELASTICSEARCH_URL", "http://127.0.0.1:1")
        .spawn();
    walferry.wait_output("listening", LIMIT).await;
    let address = format!("127.0.0.1:{}", walferry.port).parse().expect("an address");
    (walferry, address)
}

/// The status line of a probe's answer.
async fn probe(address: SocketAddr) -> String {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(Duration::from_secs(3), ask).await {
        Ok(Ok(answer)) => answer.lines().next().unwrap_or_default().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within 3 s".to_owned(),
    }
}

/// Connections that have sent the beginning of a head.
async fn unfinished(address: SocketAddr, count: usize, head: &[u8]) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.expect("the system accepts it");
        // It may have been given up for a later one already.
        drop(stream.write_all(head).await);
        open.push(stream);
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_connections_keep_no_probe_from_its_answer() {
    let (mut walferry, address) = alone().await;
    let slow = unfinished(address, CONNECTIONS, b"G").await;
    for _ in 0..20 {
        assert_eq!(probe(address).await, "HTTP/1.1 200 OK");
    }
    let mut check =
        Launch::new(&["healthcheck"]).env("WALFERRY_LISTEN", address.to_string()).spawn();
    assert_eq!(check.wait_exit(LIMIT).await, 0, "{}", check.output());
    let peak = walferry.rss_bytes().highest >> 20;
    note(&format!("{CONNECTIONS} slow connections: peak {peak} MiB"));
    assert!(peak <= PEAK_MEBIBYTES_MAX, "held {peak} MiB");
    drop(slow);
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_not_finished_in_time_ends_its_connection() {
    let (mut walferry, address) = alone().await;
    let mut stream = TcpStream::connect(address).await.expect("there is a place");
    let began = Instant::now();
    // Bytes that arrive are no reason to wait for longer.
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut rest = Vec::new();
    let ended = async {
        loop {
            tokio::select! {
                ended = stream.read_to_end(&mut rest) => return drop(ended),
                _ = ticks.tick() => {}
            }
            drop(stream.write_all(b"G").await);
        }
    };
    timeout(LIMIT, ended).await.expect("the connection is ended");
    let took = began.elapsed();
    assert!((8..20).contains(&took.as_secs()), "ended after {took:?}");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_unfinished_heads_take_little_memory() {
    let (mut walferry, address) = alone().await;
    let mut head = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n".to_vec();
    while head.len() < 390 * 1024 {
        head.extend_from_slice(b"x-filler: ");
        head.extend_from_slice(&[b'x'; 4000]);
        head.extend_from_slice(b"\r\n");
    }
    let open = unfinished(address, 900, &head).await;
    assert_eq!(probe(address).await, "HTTP/1.1 200 OK");
    let peak = walferry.rss_bytes().highest >> 20;
    note(&format!("900 unfinished heads of 390 kB: peak {peak} MiB"));
    assert!(peak <= PEAK_MEBIBYTES_MAX, "held {peak} MiB");
    drop(open);
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_dropped() {
    let (mut walferry, address) = alone().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("there is a place");
    // More answers than all buffers on the way hold.
    let request = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200);
    let began = Instant::now();
    let ended = async { while stream.write_all(&request).await.is_ok() {} };
    timeout(LIMIT, ended).await.expect("the connection is ended");
    let peak = walferry.rss_bytes().highest >> 20;
    note(&format!(
        "a client that never reads: dropped after {:?}, peak {peak} MiB",
        began.elapsed()
    ));
    assert!(peak <= PEAK_MEBIBYTES_MAX, "held {peak} MiB");
    assert_eq!(probe(address).await, "HTTP/1.1 200 OK");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_summed_in_the_log_and_in_the_audit_log() {
    const ATTEMPTS: usize = 400;
    let bed = TestBed::new("refusals").await;
    bed.migrate().await;
    let token = token::generate().expect("a token");
    let entry = token_entry("ann", Role::Admin, &token);
    let mut walferry = bed.walferry(&["run"]).env("WALFERRY_API_TOKENS", entry).spawn();
    walferry.wait_ready(LIMIT).await;
    let http = reqwest::Client::new();
    let url = walferry.url("/api/v1/queue/clear");
    for _ in 0..ATTEMPTS {
        let guess = http.post(&url).bearer_auth("walferry_guess").send().await;
        let status = guess.expect("walferry answers").status().as_u16();
        assert!(status == 401 || status == 429, "{status}");
    }
    let peak = walferry.rss_bytes().highest >> 20;
    assert!(peak <= PEAK_MEBIBYTES_MAX, "held {peak} MiB");
    let ask = async |request: reqwest::RequestBuilder, status: u16| {
        let answer = request.send().await.expect("walferry answers");
        assert_eq!(answer.status().as_u16(), status);
    };
    let (stats, start) = (walferry.url("/api/v1/queue/stats"), walferry.url("/api/v1/queue/start"));
    for _ in 0..3 {
        ask(http.get(&stats), 401).await;
        ask(http.post(&start).header("origin", "https://evil.example").body(""), 403).await;
        ask(http.get(&stats).header("host", "evil.example"), 421).await;
    }
    ask(http.post(&start).bearer_auth(&token), 200).await;
    walferry.stop().await;
    let output = walferry.output();
    output.lines().for_each(assert_members_once);
    assert!(output.contains("operation_done"), "{}", walferry.output_end());
    let traced = |event: &str, code: &str| {
        let code = format!("\"code\":\"{code}\"");
        let lines = output.lines().filter(|line| line.contains(event) && line.contains(&code));
        lines.map(|line| line.contains("\"attempts\":2")).collect::<Vec<_>>()
    };
    for code in ["not_authenticated", "cross_site", "unknown_host"] {
        assert_eq!(traced("\"request_denied\"", code), [false], "{code}");
        assert_eq!(traced("\"requests_denied\"", code), [true], "{code}");
    }
    assert_eq!(traced("\"request_denied\"", "token_unknown").len(), 1, "{}", walferry.output_end());
    assert_eq!(
        traced("\"requests_denied\"", "token_unknown").len(),
        1,
        "{}",
        walferry.output_end()
    );
    let rows = "select array_agg(coalesce(affected, 1) order by id)::text from walferry.audit
        where result = 'denied' and reason like ";
    let rows = async |code: &str| bed.sql.value::<String>(&format!("{rows} '{code}%'"), &[]).await;
    assert_eq!(rows("token_unknown").await, format!("{{1,{}}}", ATTEMPTS - 1));
    assert_eq!(rows("cross_site").await, "{1,2}");
}

#[tokio::test]
async fn refusals_push_no_operation_out_of_the_audit_log() {
    let bed = TestBed::new("audit_kept").await;
    bed.migrate().await;
    let fill = "insert into walferry.audit (at, actor, role, action, result)
        values (now() - interval '300 days', 'ann', 'admin', 'clear', 'done'),
               (now() - interval '400 days', 'ann', 'admin', 'stop', 'done');
        insert into walferry.audit (actor, role, action, result)
        select 'unknown', 'none', 'clear', 'denied' from generate_series(1, 101000);
        insert into walferry.audit (actor, role, action, result)
        select 'ann', 'viewer', 'read', 'done' from generate_series(1, 100100)";
    bed.sql.run(fill).await;
    let (code, output) = bed.walferry_once(&["maintain"], LIMIT).await;
    assert_eq!(code, 0, "{output}");
    let left = "select string_agg(concat_ws(' ', number, action, result), ', ' order by number)
        from (select count(*) as number, action, result from walferry.audit group by 2, 3) kept";
    let left: String = bed.sql.value(left, &[]).await;
    assert_eq!(left, "1 clear done, 10000 clear denied, 100000 read done");
}
