//! `pernosco trace maps`.

use std::io::Write;

use rr_trace::{MMap, MapSource, Trace};
use serde_json::{Value, json};

use crate::names;
use crate::output::{Output, hex, json_line};

pub fn run(trace: &Trace, json: bool, output: &mut Output) -> anyhow::Result<()> {
    if !json {
        let (event, range, offset) = ("event", "range", "offset");
        writeln!(output, "{event:>10}  {range:<29} prot {offset:>10}  contents  name")?;
    }
    for mapping in trace.mmaps()? {
        let mapping = mapping?;
        if json {
            json_line(output, &as_json(&mapping))?;
        } else {
            line(output, trace, &mapping)?;
        }
    }
    Ok(())
}

fn line(output: &mut Output, trace: &Trace, mapping: &MMap) -> anyhow::Result<()> {
    let range = format!("{:x}-{:x}", mapping.range.start.0, mapping.range.end.0);
    let protection = names::protection(mapping.prot, mapping.flags);
    let contents = match &mapping.source {
        MapSource::Zero => "zero",
        MapSource::Trace => "recorded",
        MapSource::File { .. } => "file",
    };
    write!(
        output,
        "{:>10}  {range:<29} {protection} {:>10x}  {contents:<9} {}",
        mapping.event,
        mapping.file_offset,
        names::text(&mapping.name)
    )?;
    // Bad names are worth an error only to those who want to open the file.
    if let Ok(Some(path)) = trace.backing_path(mapping) {
        let file = path.strip_prefix(trace.directory()).unwrap_or(&path);
        write!(output, " ({})", names::text(file.as_os_str().as_encoded_bytes()))?;
    }
    Ok(writeln!(output)?)
}

fn as_json(mapping: &MMap) -> Value {
    let (source, file) = match &mapping.source {
        MapSource::Zero => ("zero", None),
        MapSource::Trace => ("trace", None),
        MapSource::File { backing_name } => ("file", Some(String::from_utf8_lossy(backing_name))),
    };
    let extra_fds: Vec<Value> = mapping
        .extra_fds
        .iter()
        .map(|remote| json!({ "tid": remote.tid.0, "fd": remote.fd }))
        .collect();
    json!({
        "event": mapping.event.0,
        "start": hex(mapping.range.start.0),
        "end": hex(mapping.range.end.0),
        "protection": names::protection(mapping.prot, mapping.flags),
        "flags": hex(mapping.flags as u32 as u64),
        "file_offset": hex(mapping.file_offset),
        "name": String::from_utf8_lossy(&mapping.name),
        "device": hex(mapping.device),
        "inode": mapping.inode,
        "source": source,
        "backing_file": file,
        "stat": {
            "mode": format!("{:#o}", mapping.stat.mode),
            "uid": mapping.stat.uid,
            "gid": mapping.stat.gid,
            "size": mapping.stat.size,
            "mtime": mapping.stat.mtime,
        },
        "skip_monitoring_mapped_fd": mapping.skip_monitoring_mapped_fd,
        "extra_fds": extra_fds,
    })
}
