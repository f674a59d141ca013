//! The process's own metrics, under the names that every dashboard of Prometheus knows.
//!
//! They are read from Linux's `/proc` at each scrape. A file that cannot be read, as on another
//! system, costs its metrics and nothing else. The kernel counts CPU time in ticks, of which user
//! space sees a hundred a second on every architecture that walferry is built for.

use std::fs;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

const TICKS_PER_SECOND: f64 = 100.0;

/// Each metric with its sample.
pub(super) fn gather() -> Vec<MetricFamily> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let mut families = Vec::new();
    if let Some(stat) = Stat::parse(&read("self/stat")) {
        families.extend(cpu_seconds(stat.cpu_seconds));
        families.extend(gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            Some(stat.virtual_bytes),
        ));
        families.extend(gauge(
            "process_threads",
            "Number of OS threads in the process.",
            Some(stat.threads),
        ));
        families.extend(gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            boot_time(&read("stat")).map(|boot| boot + stat.started_after_boot.floor()),
        ));
    }
    families.extend(gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        resident_bytes(&read("self/status")),
    ));
    families.extend(gauge("process_open_fds", "Number of open file descriptors.", open_files()));
    families.extend(gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        max_files(&read("self/limits")),
    ));
    families
}

fn cpu_seconds(seconds: f64) -> Vec<MetricFamily> {
    let help = "Total user and system CPU time spent in seconds.";
    let counter = Counter::new("process_cpu_seconds_total", help).expect("the name is valid");
    counter.inc_by(seconds);
    counter.collect()
}

fn gauge(name: &str, help: &str, value: Option<f64>) -> Vec<MetricFamily> {
    let Some(value) = value else { return Vec::new() };
    let gauge = Gauge::new(name, help).expect("the name is valid");
    gauge.set(value);
    gauge.collect()
}

/// The fields of `/proc/self/stat` that become metrics.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    started_after_boot: f64,
    virtual_bytes: f64,
}

impl Stat {
    /// The second field is the program's name in parentheses, which may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Numbered from one by proc_pid_stat(5); the first two have been cut off.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: field(20)?,
            started_after_boot: field(22)? / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
        })
    }
}

fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn resident_bytes(text: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// The soft limit; none if there is no limit.
fn max_files(text: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    value.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<f64> {
    // One of them is the folder itself, open for this reading only.
    let files = u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(f64::from(files.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_the_kernel_writes() {
        let stat = "4242 (wal) ferry)) S 1 4242 4242 0 -1 4194560 3151 0 11 0 250 75 0 0 20 0 9 0 \
                    123456 1073741824 6000 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1";
        let expected = Stat {
            cpu_seconds: 3.25,
            threads: 9.0,
            started_after_boot: 1234.56,
            virtual_bytes: 1_073_741_824.0,
        };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(boot_time("cpu  1 2 3\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000.0));
        assert_eq!(resident_bytes("VmSize:\t 9 kB\nVmRSS:\t   24 kB\n"), Some(24_576.0));
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files    1024  4096  files\n";
        assert_eq!(max_files(limits), Some(1024.0));
        assert_eq!(max_files("Max open files   unlimited   unlimited   files\n"), None);
        for cut in ["", "4242 (walferry", "4242 (walferry) S 1 2"] {
            assert_eq!(Stat::parse(cut), None, "{cut}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_all_seven() {
        let families = gather();
        let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        assert!(
            families.iter().skip(1).all(|one| one.get_metric()[0].get_gauge().get_value() > 0.0)
        );
    }
}
