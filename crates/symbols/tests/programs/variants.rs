//! Enums, generics, traits, collections: a program to be looked at.
use std::collections::HashMap;
use std::rc::Rc;

#[derive(Debug, Clone)]
enum Shape {
    Empty,
    Circle(f64),
    Square { side: u32, label: String },
}

#[derive(Debug)]
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

struct Tree<T> {
    value: T,
    children: Vec<Rc<Tree<T>>>,
    parent: Option<Box<Tree<T>>>,
}

mod inner {
    pub static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(4);

    #[inline(never)]
    pub fn longest<'a>(a: &'a str, b: &'a str) -> &'a str {
        if a.len() > b.len() { a } else { b }
    }
}

#[inline(never)]
fn total(shapes: &[Shape], by_name: &HashMap<String, Shape>) -> f64 {
    let listed: f64 = shapes.iter().map(|shape| shape.area()).sum();
    let named: f64 = by_name.values().map(Area::area).sum();
    listed + named
}

fn depth<T>(tree: &Tree<T>) -> usize {
    1 + tree.children.iter().map(|child| depth(child)).max().unwrap_or(0)
}

fn main() {
    let shapes = vec![
        Shape::Empty,
        Shape::Circle(1.5),
        Shape::Square { side: 3, label: "three".to_string() },
    ];
    let mut by_name = HashMap::new();
    by_name.insert("a".to_string(), shapes[2].clone());
    let leaf = Rc::new(Tree { value: 1u8, children: vec![], parent: None });
    let tree = Tree { value: 2u8, children: vec![leaf], parent: None };
    let tuple = (1u16, 'x', -4i64, true);
    let plain = if shapes.len() > 2 { Plain::Seven } else { Plain::One };
    let dynamic: &dyn Area = &shapes[1];
    inner::COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    println!(
        "{} {} {} {:?} {:?} {} {} {}",
        total(&shapes, &by_name),
        depth(&tree),
        inner::longest("ab", "c"),
        tuple,
        plain,
        dynamic.area(),
        tree.value,
        tree.parent.is_some(),
    );
}
