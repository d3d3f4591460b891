//! Types of Rust's standard library, enums, traits.
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone)]
enum Shape {
    Empty,
    Circle(f64),
    Square { side: u32, label: String },
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u8)]
enum Plain {
    One = 1,
    Seven = 7,
}

trait Area {
    fn area(&self) -> f64;
}

impl Area for Shape {
    fn area(&self) -> f64 {
        match self {
            Shape::Empty => 0.0,
            Shape::Circle(radius) => 3.0 * radius * radius,
            Shape::Square { side, .. } => f64::from(side * side),
        }
    }
}

#[derive(Debug)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Debug)]
struct Unit;

#[derive(Debug)]
struct Wrapper(u16);

union Either {
    number: u32,
    #[allow(dead_code)]
    bytes: [u8; 4],
}

impl std::fmt::Debug for dyn Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.area())
    }
}

static GREETING: &str = "hello";

fn keep<T>(value: &T) {
    std::hint::black_box(value);
}

fn main() {
    let number = 5i32;
    let byte = 200u8;
    let wide = -(1i128 << 100);
    let letter = 'é';
    let truth = true;
    let float = 0.1f32;
    let unit = ();
    let tuple = (1u16, 'x', -4i64, true);
    let array = [1i32, 2, 3];
    let grid = [[1u8, 2], [3, 4]];
    let slice = &array[1..];
    let text = "slice of text";
    let string = String::from("owned");
    let empty_string = String::new();
    let boxed_text: Box<str> = "boxed".into();
    let vector = vec![10u32, 20, 30];
    let words = vec!["a".to_string(), "b".to_string()];
    let nested = vec![vec![1u8], vec![2, 3]];
    let units = vec![(), ()];
    let mut deque: VecDeque<i32> = VecDeque::with_capacity(4);
    for i in 0..6 {
        deque.push_back(i);
        if i % 2 == 0 {
            deque.pop_front();
        }
    }
    let mut map: HashMap<String, i32> = HashMap::new();
    map.insert("key".to_string(), 7);
    let mut big_map: HashMap<u32, u32> = HashMap::new();
    for i in 0..100 {
        big_map.insert(i, i * 2);
    }
    let mut set: HashSet<u8> = HashSet::new();
    set.insert(4);
    let mut tree: BTreeMap<i32, String> = BTreeMap::new();
    for i in 0..40 {
        tree.insert(i, format!("v{i}"));
    }
    let tree_set: BTreeSet<char> = ['c', 'a', 'b'].into();
    let empty_tree: BTreeMap<i32, i32> = BTreeMap::new();
    let some = Some(3u8);
    let none: Option<u8> = None;
    let niche: Option<&i32> = Some(&array[1]);
    let niche_none: Option<Box<i32>> = None;
    let fine: Result<u32, String> = Ok(9);
    let failed: Result<u32, String> = Err("bad".to_string());
    let shapes = vec![
        Shape::Empty,
        Shape::Circle(1.5),
        Shape::Square { side: 3, label: "three".to_string() },
    ];
    let plain = Plain::Seven;
    let one = Plain::One;
    let point = Point { x: 1, y: -2 };
    let point_ref = &point;
    let unit_struct = Unit;
    let wrapper = Wrapper(77);
    let either = Either { number: 0x01020304 };
    let boxed = Box::new(Point { x: 3, y: 4 });
    let boxed_slice: Box<[i32]> = vec![1, 2].into();
    let counted = Rc::new(Point { x: 5, y: 6 });
    let weak: Weak<Point> = Rc::downgrade(&counted);
    let dangling: Weak<Point> = Weak::new();
    let counted_text: Rc<str> = "counted".into();
    let shared = Arc::new(Mutex::new(vec![1u8, 2]));
    let cell = Cell::new(8u16);
    let refcell = RefCell::new("inside".to_string());
    let atomic = AtomicUsize::new(12);
    let nonzero = std::num::NonZeroU32::new(6).unwrap();
    let dynamic: Box<dyn Area> = Box::new(Shape::Circle(2.0));
    let dynamic_ref: &dyn Area = &shapes[2];
    let closure = |x: i32| x + number;
    let function: fn(&str) -> usize = str::len;
    let path = std::path::PathBuf::from("/a/b");
    let path_ref = path.as_path();
    let duration = std::time::Duration::from_millis(1500);
    let shadow = 1u8;
    let shadow = shadow as u32 + 10;
    keep(&(&number, byte, wide, letter, truth, float, unit, &tuple, &array));
    keep(&(&grid, slice, text, &string, &empty_string, &boxed_text, &vector, &words, &nested));
    keep(&(&units, &deque, &map, &big_map, &set, &tree, &tree_set, &empty_tree, &some, &none));
    keep(&(niche, &niche_none, &fine, &failed, &shapes, plain, one, &point, point_ref));
    keep(&(&unit_struct, &wrapper, &either, &boxed, &boxed_slice, &counted, &weak, &dangling));
    keep(&(&counted_text, &shared, &cell, &refcell, &atomic, nonzero, &dynamic, dynamic_ref));
    keep(&(&closure, function, &path, path_ref, duration, shadow, GREETING));
    println!("{} {:?} {:?}", closure(2), dynamic.area(), point); // STOP
    println!("{:?} {} {}", unit_struct, wrapper.0, unsafe { either.number });
    println!("{:?} {:?}", shapes, (boxed.x, boxed.y, point_ref.x, point.y));
}
