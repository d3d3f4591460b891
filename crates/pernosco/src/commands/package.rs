//! `pernosco package-build`: makes a recording self-contained, to be built here or elsewhere.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, bail};
use rr_trace::{Packing, Trace};

use super::build::DATABASE;
use super::compatibility;
use crate::locate::TraceArgument;
use crate::names;
use crate::output::{bytes, with_stdout};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    trace: TraceArgument,
    #[command(flatten)]
    compatibility: compatibility::BuildOptions,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    arguments.compatibility.tell();
    package(&arguments.trace.open()?)
}

/// Copies mapped files into the recording, and says which.
pub fn package(trace: &Trace) -> anyhow::Result<()> {
    let directory = trace.directory();
    let packing = Packing::plan(trace).context(
        "cannot make the recording self-contained (`only-build` builds it as it is, here)",
    )?;
    if packing.is_done() {
        let inside = packing.inside();
        return with_stdout(|output| {
            let directory = shown(directory);
            Ok(writeln!(output, "{directory}: self-contained, with {inside} mapped files")?)
        });
    }
    let database = directory.join(DATABASE);
    // What it says of mapped files would be wrong afterwards.
    if database.symlink_metadata().is_ok() {
        bail!(
            "{} was made before the recording is self-contained and will be of no use then: \
             remove it first, or go on with it by `only-build`",
            shown(&database)
        );
    }
    let copied = packing.run().context("cannot make the recording self-contained")?;
    with_stdout(|output| {
        let mut sum = 0;
        for copy in &copied {
            let known = if copy.new { "" } else { ", not copied again" };
            let (from, size) = (shown(&copy.from), bytes(copy.bytes));
            writeln!(output, "{from} -> {} ({size}{known})", copy.name)?;
            sum += if copy.new { copy.bytes } else { 0 };
        }
        let new = copied.iter().filter(|copy| copy.new).count();
        let (directory, sum, inside) = (shown(directory), bytes(sum), packing.inside());
        writeln!(
            output,
            "{directory}: self-contained, {new} files copied ({sum}), {inside} were in it"
        )?;
        Ok(())
    })
}

fn shown(path: &Path) -> String {
    names::text(path.as_os_str().as_bytes())
}
