//! How many instructions the data path's functions take: Gungraun over every case, one run each.
//!
//! `.ci/instructions` compares the counts with baseline.json. The names are written out because
//! the attributes want literals; that comparison notices one that is missing here.

#![expect(
    missing_docs,
    reason = "Gungraun's macros make public items without any"
)]

use cases::{Work, warm};
use gungraun::{library_benchmark, library_benchmark_group, main};

mod cases;

// The work is returned, so that dropping it is not counted.
#[library_benchmark(setup = warm)]
#[bench::http1_request_short("http1_request_short")]
#[bench::http1_request_browser("http1_request_browser")]
#[bench::http1_request_in_three_reads("http1_request_in_three_reads")]
#[bench::http1_response("http1_response")]
#[bench::http1_chunked_body("http1_chunked_body")]
#[bench::http1_write_request("http1_write_request")]
#[bench::http1_write_response("http1_write_response")]
#[bench::route_host_exact("route_host_exact")]
#[bench::route_host_wildcard("route_host_wildcard")]
#[bench::route_path_exact("route_path_exact")]
#[bench::route_path_prefix("route_path_prefix")]
#[bench::route_path_regex("route_path_regex")]
#[bench::route_normalise_path("route_normalise_path")]
#[bench::policy_none("policy_none")]
#[bench::policy_usual("policy_usual")]
#[bench::config_parse_1000_hosts("config_parse_1000_hosts")]
#[bench::config_diff_1000_hosts("config_diff_1000_hosts")]
#[bench::snapshot_compile_1000_hosts("snapshot_compile_1000_hosts")]
#[bench::snapshot_add_host_to_1000("snapshot_add_host_to_1000")]
fn case(mut work: Work) -> Work {
    work();
    work
}

library_benchmark_group!(name = cases_group, benchmarks = case);
main!(library_benchmark_groups = cases_group);
