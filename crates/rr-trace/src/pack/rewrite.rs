//! The stream of mappings with other names of files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use capnp::message::Builder;

use crate::stream::{BlockReader, BlockWriter, Message, Messages, Source};
use crate::trace_capnp as schema;
use crate::{Error, MMap, MMaps, MapSource, Stat, StreamName, Trace};

/// New names of backing files by the old ones.
pub type Names = BTreeMap<Vec<u8>, Vec<u8>>;

/// Writes all records to `output`; those whose file has a new name say of it nothing but the name
/// and the size, which is what rr expects of a packed recording.
pub fn rewrite(trace: &Trace, names: &Names, output: File, path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Write { file: path.into(), source };
    let mut messages = Messages::new(BlockReader::new(trace.mmaps_source()?));
    let mut writer = BlockWriter::new(output);
    while let Some(record) = messages.next(|message| rename(message, names))? {
        writer.append(&record).map_err(failed)?;
    }
    writer.finish().map_err(failed)
}

/// A packed message. Fields that we do not know are kept.
fn rename(message: &Message<'_>, names: &Names) -> capnp::Result<Vec<u8>> {
    use schema::m_map::source::Which;
    let old = message.reader.get_root::<schema::m_map::Reader<'_>>()?;
    let mut new = Builder::new_default();
    new.set_root(old)?;
    let backing_name = match old.get_source().which() {
        Ok(Which::File(file)) => Some(file.get_backing_file_name()?),
        _ => None,
    };
    if let Some(name) = backing_name.and_then(|name| names.get(name)) {
        let mut map = new.get_root::<schema::m_map::Builder<'_>>()?;
        map.set_stat_mode(0);
        map.set_stat_uid(0);
        map.set_stat_gid(0);
        map.set_stat_m_time(0);
        map.get_source().init_file().set_backing_file_name(name);
    }
    let mut bytes = Vec::new();
    capnp::serialize_packed::write_message(&mut bytes, &new)?;
    Ok(bytes)
}

/// Reads the new stream and compares it with what it was made from.
pub fn compare(trace: &Trace, names: &Names, path: &Path) -> Result<(), Error> {
    let mut new = MMaps::new(Source::open(path)?);
    let mut number = 0;
    let mut old = trace.mmaps()?;
    loop {
        let expected = old.next().transpose()?.map(|map| renamed(map, names));
        let found = new.next().transpose()?;
        if expected != found {
            let file = trace.directory().join(StreamName::MMaps.file_name());
            let reason = format!("record {number} changed while the recording was packed");
            return Err(Error::Corrupt { file, offset: 0, reason });
        }
        if found.is_none() {
            return Ok(());
        }
        number += 1;
    }
}

fn renamed(map: MMap, names: &Names) -> MMap {
    let MapSource::File { backing_name } = &map.source else { return map };
    let Some(name) = names.get(backing_name) else { return map };
    let source = MapSource::File { backing_name: name.clone() };
    MMap { source, stat: Stat { size: map.stat.size, ..Stat::default() }, ..map }
}
