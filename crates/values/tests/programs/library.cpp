// Types of the C++ standard library, classes, templates.
#include <array>
#include <atomic>
#include <bitset>
#include <chrono>
#include <complex>
#include <cstdio>
#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <stack>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

namespace geometry {

int limit = 12;

struct Named {
    std::string name;
    static int instances;
    Named(const char *n) : name(n) {}
    virtual ~Named() {}
};
int Named::instances = 3;

struct Base {
    virtual ~Base() {}
    virtual double area() const { return 0; }
    int id = 1;
};

template <typename T, int N> struct Polygon : public Base, virtual Named {
    T sides[N];
    enum class Style : unsigned char { Solid, Dashed = 7 };
    Style style = Style::Dashed;
    Polygon(T first) : Named("polygon") {
        for (int i = 0; i < N; i++)
            sides[i] = first + i;
    }
    double area() const override {
        double sum = 0;
        for (const T &side : sides)
            sum += side;
        return sum + limit; // STOP
    }
};

struct Left { virtual ~Left() {} int l = 11; };
struct Right { virtual ~Right() {} int r = 22; };
struct Both : Left, Right { int own = 33; };

namespace {
struct Hidden { virtual ~Hidden() {} int h = 44; };
struct Deeper : Hidden { int d = 55; };
}

struct Node {
    int value;
    Node *next;
    int Node::*member;
    double (Base::*function)() const;
};

}

struct Deleter {
    int tag;
    void operator()(int *p) const { delete p; }
};

using namespace geometry;

int main(int argc, char **) {
    std::string empty, small = "short", large(60, 'x');
    std::u16string wide = u"w\u00efde";
    std::string_view view = small;
    std::vector<int> numbers = {1, 2, 3, 4, 5};
    std::vector<std::string> words = {"one", "two", "three"};
    std::vector<std::vector<int>> nested = {{1}, {2, 3}, {}};
    std::vector<bool> bits;
    for (int i = 0; i < 70; i++)
        bits.push_back(i % 3 == 0);
    std::vector<int> many(1000);
    for (int i = 0; i < 1000; i++)
        many[i] = i * i;
    std::array<int, 3> fixed = {7, 8, 9};
    std::deque<int> both_ends;
    for (int i = 0; i < 300; i++)
        both_ends.push_back(i);
    for (int i = 0; i < 150; i++)
        both_ends.push_front(-i);
    std::deque<std::string> text_deque = {"a", "b"};
    std::list<int> linked = {1, 2, 3};
    std::forward_list<int> forward = {4, 5, 6};
    std::map<std::string, int> counts = {{"a", 1}, {"b", 2}, {"c", 3}};
    std::map<int, std::vector<int>> lists = {{1, {1}}, {2, {2, 2}}};
    std::multimap<int, int> multi = {{1, 1}, {1, 2}};
    std::set<int> members = {5, 3, 9};
    std::multiset<char> letters = {'b', 'a', 'b'};
    std::unordered_map<std::string, double> hashed = {{"pi", 3.14}, {"e", 2.72}};
    std::unordered_set<int> hashed_set = {10, 20, 30};
    std::unordered_multimap<int, int> hashed_multi = {{1, 2}};
    std::stack<int> stack;
    stack.push(1);
    std::queue<int> queue;
    queue.push(2);
    std::priority_queue<int> priority;
    priority.push(3);
    std::optional<int> nothing, something = 42;
    std::optional<std::string> text = "optional";
    std::variant<int, std::string, double> choice = std::string("chosen");
    std::tuple<int, std::string, double> triple = {1, "two", 3.5};
    std::pair<int, std::string> pair = {1, "second"};
    std::unique_ptr<int> unique = std::make_unique<int>(5), none;
    std::unique_ptr<int, Deleter> custom(new int(6), Deleter{9});
    std::unique_ptr<Base> shape = std::make_unique<Polygon<int, 3>>(argc);
    std::shared_ptr<std::string> shared = std::make_shared<std::string>("shared");
    std::weak_ptr<std::string> weak = shared;
    std::function<int(int)> function = [argc](int x) { return x + argc; };
    std::atomic<int> atomic{17};
    std::atomic<bool> flag{true};
    std::complex<double> complex{1.5, -2};
    std::chrono::milliseconds duration{1500};
    std::reference_wrapper<int> wrapped = numbers[1];
    std::bitset<10> bitset(5);
    std::vector<int>::iterator iterator = numbers.begin() + 2;
    Polygon<double, 4> polygon(2.5);
    Base *base = &polygon;
    Base &reference = polygon;
    Named *named = &polygon;
    Both two;
    Right *right = &two;
    Deeper deeper;
    Hidden *hidden = &deeper;
    Node node = {1, nullptr, &Node::value, &Base::area};
    Node other = {2, &node, nullptr, nullptr};
    int captured = 99;
    auto lambda = [captured, &numbers]() { return captured + (int)numbers.size(); };
    bool truth = argc == 1;
    char16_t letter = u'\u00e9';
    // An instruction of its own, also where much is moved around.
    __asm__ volatile("nop" ::: "memory"); // STOP
    std::printf("%d %zu %f %d %d\n", lambda(), numbers.size(), shape->area(), (int)nested.size(),
                other.value + right->r + hidden->h + base->id + reference.id + (int)named->name.size());
    return (int)(counts.size() + words.size() + lists.size() + truth + letter + *iterator) == 12345;
}
