//! How long the data path's functions take: criterion over every case.
//!
//! For a person at a quiet machine. CI looks at instruction counts instead, which repeat.

use criterion::Criterion;

mod cases;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in cases::all() {
        let mut work = cases::warm(case.name);
        criterion.bench_function(case.name, |bencher| bencher.iter(&mut work));
    }
    criterion.final_summary();
}
