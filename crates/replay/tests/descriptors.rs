//! Where the bytes of every recording go: to the output that rr's own replay prints, and through
//! pipes and sockets unchanged.

mod support;

use support::transfers::{Follower, Seen};

/// Replays to the end and follows all bytes.
fn follow(session: &mut replay::Session, name: &str) -> Seen {
    let (follower, seen) = Follower::new();
    session.observe_descriptors(Some(follower));
    while session.step_event().unwrap_or_else(|error| panic!("{name}: {error}")).is_some() {}
    session.observe_descriptors(None);
    std::rc::Rc::into_inner(seen).expect("the observer is gone").into_inner()
}

fn check(name: &str) -> (Seen, u64) {
    let mut session = support::open(name);
    let seen = follow(&mut session, name);
    let recorded = |file| std::fs::read(support::traces().join(name).join(file)).unwrap();
    let [out, error] = &seen.output;
    let expected = recorded("stdout.txt");
    assert!(*out == expected, "{name}: {}", String::from_utf8_lossy(out));
    // The recorder itself wrote there, too.
    let expected = recorded("stderr.txt");
    assert!(expected.ends_with(error), "{name}: {}", String::from_utf8_lossy(error));
    let compared = seen.check_streams(name);
    seen.check_lives(name);
    (seen, compared)
}

macro_rules! recordings {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            if testkit::can_replay($name) {
                check($name);
            }
        })*
    };
}

recordings! {
    smallest_program: "true",
    directory_listing: "ls",
    heap_list: "heap_list_O0",
    heap_list_unbuffered: "heap_list_O2_n",
    struct_copy: "struct_copy_O0",
    use_after_free: "use_after_free_n",
    containers: "containers_O0",
    shapes: "shapes_O0",
    recursion: "recursion_O2",
    float_math: "float_math_O2",
    crash: "crash",
    selfmod: "selfmod",
    signals: "signals",
    threads_chaos: "threads_chaos",
    threads_slices: "threads_slices",
}

#[test]
fn processes_and_pipes() {
    let (_, compared) = check("fork_pipe");
    assert!(compared > 0, "nothing went through pipes");
}
