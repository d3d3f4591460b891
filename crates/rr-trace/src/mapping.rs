//! Mapping records: what was mapped where, and where its contents come from.

use std::fs::Metadata;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use model::{Address, Event, Tid};

/// One mapping, recorded while the frame `event` was processed. The order within a frame counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MMap {
    pub event: Event,
    pub range: Range<Address>,
    /// Path as the recorded program saw it, or a name like `[stack]`: bytes, perhaps not UTF-8.
    pub name: Vec<u8>,
    /// Identity of the file: the key of shared mappings.
    pub device: u64,
    pub inode: u64,
    pub prot: i32,
    pub flags: i32,
    pub file_offset: u64,
    pub stat: Stat,
    pub source: MapSource,
    /// Other descriptors through which the mapped file can be written.
    pub extra_fds: Vec<RemoteFd>,
    pub skip_monitoring_mapped_fd: bool,
}

impl MMap {
    /// Names what is no longer as it was when the backing file was mapped, if that is known:
    /// the file may then have other contents than the program saw. Nothing for the recorder's
    /// own copies and for packed recordings, which do not change.
    pub fn changes_since_recording(&self, file: &Metadata) -> Vec<&'static str> {
        let MapSource::File { backing_name } = &self.source else { return vec![] };
        let own_copy =
            [&b"mmap_copy_"[..], b"mmap_clone_"].iter().any(|p| backing_name.starts_with(p));
        if own_copy || !self.stat.is_known() {
            return vec![];
        }
        let size = u64::try_from(self.stat.size).ok();
        [
            ("inode", self.inode != file.ino()),
            ("mode", self.stat.mode != file.mode()),
            ("owner", self.stat.uid != file.uid()),
            ("group", self.stat.gid != file.gid()),
            ("size", size != Some(file.size())),
            ("modification time", self.stat.mtime != file.mtime()),
        ]
        .into_iter()
        .filter_map(|(name, changed)| changed.then_some(name))
        .collect()
    }
}

/// Contents of a new mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapSource {
    Zero,
    /// In the writes of the same frame.
    Trace,
    /// In a file, from `file_offset` on; [`crate::Trace::backing_path`] says where it is.
    File {
        backing_name: Vec<u8>,
    },
}

/// The mapped file's state when it was recorded; all but the size are 0 in a packed recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: i64,
    pub mtime: i64,
}

impl Stat {
    /// Whether it says more than the size.
    pub fn is_known(&self) -> bool {
        Stat { size: 0, ..*self } != Stat::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFd {
    pub tid: Tid,
    pub fd: i32,
}
