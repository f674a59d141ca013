//! The effect of floods from a client without a credential on the pipeline: the time in which a backlog
//! is indexed with and without them, and the memory that the process reaches.
//!
//! The flood is made on the same processors. So that it takes few of them itself, it is open
//! connections and a bounded rate of refused requests.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::{start, stocked, worked_off};
use crate::figures::median;

/// Connections with the beginning of a head, and such with a long one that does not end.
const SLOW: usize = 600;
const LONG: usize = 430;
const LONG_BYTES: usize = 30 * 1024;
/// Between two requests that are refused.
const REFUSED_EVERY: Duration = Duration::from_millis(5);

/// The relative increase of the time, by pairs of runs.
pub(crate) async fn run(pairs: usize) -> String {
    let mut ratios = Vec::new();
    let mut lines = String::new();
    for _ in 0..pairs {
        let (alone, _) = drain(false).await;
        let (flooded, peak) = drain(true).await;
        let rate = alone / flooded;
        writeln!(
            lines,
            "  alone {alone:.2} s, in a flood {flooded:.2} s: rate {rate:.3}, peak {peak} MiB"
        )
        .expect("memory takes what is written");
        ratios.push(rate);
    }
    format!("{lines}  median rate {:.3} of that without a flood", median(&ratios))
}

async fn drain(flooded: bool) -> (f64, u64) {
    let (rig, mut walferry) = stocked().await;
    let mut flood = JoinSet::new();
    if flooded {
        for number in 0..SLOW + LONG {
            flood.spawn(hold(format!("127.0.0.1:{}", walferry.port), number >= SLOW));
        }
        flood.spawn(refused(walferry.url("/api/v1/queue/clear")));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let started = start(&walferry).await;
    let took = worked_off(&rig, started).await;
    flood.abort_all();
    let peak = walferry.rss_bytes().highest >> 20;
    walferry.stop().await;
    (took, peak)
}

/// Opens a connection again and again, and never ends its head.
async fn hold(address: String, is_long: bool) {
    let head = "GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ".to_owned();
    let head = if is_long { head + &"x".repeat(LONG_BYTES) } else { "G".to_owned() };
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
        if stream.write_all(head.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}

/// Asks what is refused, as often as the rate allows.
async fn refused(url: String) {
    let http = reqwest::Client::new();
    let mut pace = interval(REFUSED_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        drop(http.post(&url).bearer_auth("walferry_guess").send().await);
    }
}
