#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
#include <cstdio>

namespace geometry {

struct Base {
    virtual ~Base() {}
    virtual double area() const = 0;
    int id = 1;
};

class Named {
public:
    std::string name;
    static int instances;
    Named(const std::string &n) : name(n) { instances++; }
protected:
    bool visible = true;
};
int Named::instances = 3;

template <typename T, int N> struct Polygon : public Base, virtual Named {
    T sides[N];
    enum class Style : unsigned char { Solid, Dashed = 7 };
    Style style = Style::Dashed;
    int Polygon::*member = nullptr;
    using Side = T;
    Polygon(T first) : Named("polygon") {
        for (int i = 0; i < N; i++)
            sides[i] = first + i;
    }
    double area() const override {
        double sum = 0;
        for (const T &side : sides)
            sum += side;
        return sum;
    }
};

namespace {
int hidden(int &reference, int &&temporary) {
    reference += temporary;
    return reference;
}
}

bool operator<(const Base &a, const Base &b) { return a.id < b.id; }

template <typename F> int apply(F function, int times) {
    int total = 0;
    for (int i = 0; i < times; i++)
        total += function(i);
    return total;
}

}

thread_local int thread_value = 5;

int main(int argc, char **) {
    using namespace geometry;
    std::vector<std::unique_ptr<Base>> shapes;
    shapes.push_back(std::make_unique<Polygon<int, 3>>(argc));
    shapes.push_back(std::make_unique<Polygon<double, 4>>(2.5));
    std::map<std::string, int> counts;
    for (const auto &shape : shapes)
        counts["area"] += static_cast<int>(shape->area());
    int captured = argc;
    int total = apply([&captured](int value) { return value * captured; }, 4);
    total += hidden(captured, 3) + (*shapes[0] < *shapes[1]);
    try {
        if (total > 0)
            throw std::runtime_error("thrown");
    } catch (const std::exception &error) {
        std::printf("%s %d %d %d\n", error.what(), total, counts["area"], thread_value);
    }
    return 0;
}
