//! Which figures to measure, and in which order.

use crate::table::{Row, Table};
use crate::{attach, decode, hammer, peers, price, soak, sources};
use anyhow::Result;
use clap::{Parser, ValueEnum};
use std::process::ExitCode;

/// Measures the recorder and prints its figures beside their goals.
#[derive(Parser)]
pub(crate) struct Options {
    /// Measure only these
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Figure>,
    /// Interleaved pairs for the slowdown of decoding
    #[arg(long, default_value_t = 25)]
    pub(crate) pairs: usize,
    /// Threads that decode
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: u32,
    /// Seconds of the soak; 600 for the figure in docs/performance.md
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) soak: u64,
    /// Also profile the recorder under the hammer, with perf
    #[arg(long)]
    pub(crate) profile: bool,
    /// Cargo passes this
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Price of a probe hit against that of an empty program
    Price,
    /// Slowdown of decoding at level `thread`, with one probe a node and with two
    Decode,
    /// Slowdown of decoding by what is recorded beside operators
    Sources,
    /// The same by each of these sources alone; measured only when it is named
    Alone,
    /// Slowdown of decoding by recording experts, on a mixture of them
    Moe,
    /// What counters of operators add, three of the kernel's and three events of perf
    Counters,
    /// Slowdown of decoding by states of threads and page faults
    Machine,
    /// Slowdown of decoding at level `token`
    Token,
    /// Slowdown of decoding against bpftrace and BCC
    Peers,
    /// CPU and memory of the recorder at 200,000 events a second
    Soak,
    /// Events a second without a loss
    Hammer,
    /// Time until the first recorded token
    Attach,
}

impl Figure {
    fn measure(self, options: &Options) -> Result<Vec<Row>> {
        match self {
            Self::Price => price::measure(),
            Self::Decode => decode::measure(options),
            Self::Sources => sources::measure(options),
            Self::Alone => sources::measure_alone(options),
            Self::Moe => sources::measure_moe(options),
            Self::Counters => decode::measure_counters(options),
            Self::Machine => decode::measure_machine(options),
            Self::Token => decode::measure_token(options),
            Self::Peers => peers::measure(options),
            Self::Soak => soak::measure(options.soak),
            Self::Hammer => hammer::measure(options.profile),
            Self::Attach => attach::measure(options),
        }
    }
}

pub(crate) fn run() -> ExitCode {
    let options = Options::parse();
    let mut table = Table::default();
    let mut complete = true;
    for figure in Figure::value_variants() {
        let named = options.only.contains(figure);
        if !named && (!options.only.is_empty() || *figure == Figure::Alone) {
            continue;
        }
        let name = figure.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        eprintln!("bench-record: measuring {name} …");
        match figure.measure(&options) {
            Ok(rows) => {
                complete &= rows.iter().all(Row::is_measured);
                table.extend(&name, rows);
            }
            Err(error) => {
                complete = false;
                table.extend(&name, vec![Row::skipped(&name, &format!("{error:#}"))]);
            }
        }
    }
    print!("{table}");
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
