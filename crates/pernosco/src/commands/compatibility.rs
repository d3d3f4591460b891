//! Options of the program whose commands these are, for scripts that give them.
//!
//! They are about its containers, its registry and its helpers, and there is nothing to be done
//! for them here.

/// For all commands.
#[derive(clap::Args)]
#[command(next_help_heading = "Accepted for compatibility, without effect")]
pub struct Options {
    /// There are no images to pull
    #[arg(long, global = true, hide_short_help = true)]
    no_pull: bool,
    /// There are no images to pull from Google's registry either
    #[arg(long, global = true, hide_short_help = true)]
    gcloud: bool,
    /// There are no containers
    #[arg(long, global = true, hide_short_help = true, value_name = "NAME")]
    container_runtime: Option<String>,
    /// There are no containers that could be named
    #[arg(long, global = true, hide_short_help = true, value_name = "SUFFIX")]
    container_name_suffix: Option<String>,
    /// Everything runs as the user who runs it
    #[arg(long, global = true, hide_short_help = true, value_name = "USER")]
    user: Option<String>,
    /// `--log debug:FILE` has what there is to say
    #[arg(short = 'x', global = true, hide_short_help = true)]
    x: bool,
}

/// For the commands that build.
#[derive(clap::Args)]
#[command(next_help_heading = "Accepted for compatibility, without effect")]
pub struct BuildOptions {
    /// rr is not needed in the first place
    #[arg(long, hide_short_help = true)]
    skip_rr: bool,
    /// No indexes for gdb are made
    #[arg(long, hide_short_help = true)]
    skip_gdb_add_index: bool,
    /// No rr is run whose log could be had
    #[arg(long, hide_short_help = true, value_name = "SPECIFICATION")]
    builder_rr_log: Option<String>,
}

impl Options {
    /// Says which of them were given, in one line of the log.
    pub fn tell(&self) {
        tell(&[
            ("--no-pull", self.no_pull),
            ("--gcloud", self.gcloud),
            ("--container-runtime", self.container_runtime.is_some()),
            ("--container-name-suffix", self.container_name_suffix.is_some()),
            ("--user", self.user.is_some()),
            ("-x", self.x),
        ]);
    }
}

impl BuildOptions {
    /// Says which of them were given, in one line of the log.
    pub fn tell(&self) {
        tell(&[
            ("--skip-rr", self.skip_rr),
            ("--skip-gdb-add-index", self.skip_gdb_add_index),
            ("--builder-rr-log", self.builder_rr_log.is_some()),
        ]);
    }
}

fn tell(options: &[(&str, bool)]) {
    let given: Vec<_> = options.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if !given.is_empty() {
        tracing::warn!("nothing has to be done for {}", given.join(", "));
    }
}
