//! Decodes mapping records and task events (appendix A of rr-replay).

use capnp::NotInSchema;
use model::{Address, Event, PAGE_SIZE, Tid};

use super::{Record, check_list, frame_time, invalid};
use crate::stream::Message;
use crate::trace_capnp as schema;
use crate::{MMap, MapSource, RemoteFd, Stat, TaskEvent, TaskEventKind};

impl Record for MMap {
    #[allow(private_interfaces)]
    fn decode(message: &Message<'_>) -> capnp::Result<MMap> {
        let map = message.reader.get_root::<schema::m_map::Reader<'_>>()?;
        let (start, end) = (map.get_start(), map.get_end());
        if start > end || start % PAGE_SIZE != 0 || end % PAGE_SIZE != 0 {
            return Err(invalid(format!("a mapping from {start:#x} to {end:#x}")));
        }
        let offset = map.get_file_offset_bytes();
        let file_offset =
            u64::try_from(offset).map_err(|_| invalid(format!("file offset {offset}")))?;
        let extra_fds = map.get_extra_fds()?;
        check_list("descriptors", extra_fds.len(), message, 1)?;
        Ok(MMap {
            event: frame_time(map.get_frame_time())?,
            range: Address(start)..Address(end),
            name: map.get_fsname()?.to_vec(),
            device: map.get_device(),
            inode: map.get_inode(),
            prot: map.get_prot(),
            flags: map.get_flags(),
            file_offset,
            stat: Stat {
                mode: map.get_stat_mode(),
                uid: map.get_stat_uid(),
                gid: map.get_stat_gid(),
                size: map.get_stat_size(),
                mtime: map.get_stat_m_time(),
            },
            source: source(map.get_source())?,
            extra_fds: extra_fds
                .iter()
                .map(|remote| RemoteFd { tid: Tid(remote.get_tid()), fd: remote.get_fd() })
                .collect(),
            skip_monitoring_mapped_fd: map.get_skip_monitoring_mapped_fd(),
        })
    }

    fn event(&self) -> Event {
        self.event
    }
}

fn source(source: schema::m_map::source::Reader<'_>) -> capnp::Result<MapSource> {
    use schema::m_map::source::Which;
    let unknown = |NotInSchema(tag)| {
        invalid(format!("unknown kind {tag} of mapping source: made by a later rr?"))
    };
    Ok(match source.which().map_err(unknown)? {
        Which::Zero(()) => MapSource::Zero,
        Which::Trace(()) => MapSource::Trace,
        Which::File(file) => {
            MapSource::File { backing_name: file.get_backing_file_name()?.to_vec() }
        }
    })
}

impl Record for TaskEvent {
    #[allow(private_interfaces)]
    fn decode(message: &Message<'_>) -> capnp::Result<TaskEvent> {
        use schema::task_event::Which;
        let task = message.reader.get_root::<schema::task_event::Reader<'_>>()?;
        let unknown = |NotInSchema(tag)| {
            invalid(format!("unknown kind {tag} of task event: made by a later rr?"))
        };
        let kind = match task.which().map_err(unknown)? {
            Which::Clone(clone) => TaskEventKind::Clone {
                parent: Tid(clone.get_parent_tid()),
                flags: clone.get_flags(),
                own_namespace_tid: Tid(clone.get_own_ns_tid()),
            },
            Which::Exec(exec) => {
                let command_line = exec.get_cmd_line()?;
                check_list("arguments", command_line.len(), message, 1)?;
                TaskEventKind::Exec {
                    file_name: exec.get_file_name()?.to_vec(),
                    command_line: command_line
                        .iter()
                        .map(|argument| argument.map(<[u8]>::to_vec))
                        .collect::<capnp::Result<_>>()?,
                    exe_base: Address(exec.get_exe_base()),
                    interpreter_base: Address(exec.get_interp_base()),
                    interpreter_name: exec.get_interp_name()?.to_vec(),
                    pointer_authentication: exec.get_pac_data()?.to_vec(),
                }
            }
            Which::Exit(exit) => TaskEventKind::Exit { status: exit.get_exit_status() },
            Which::Detach(()) => TaskEventKind::Detach,
        };
        let event = frame_time(task.get_frame_time())?;
        Ok(TaskEvent { event, tid: Tid(task.get_tid()), kind })
    }

    fn event(&self) -> Event {
        self.event
    }
}
