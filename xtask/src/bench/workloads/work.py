# Pure Python: objects, dictionaries, strings, lists, generators, integers, floats.
import sys


class Node:
    __slots__ = ("left", "right", "value")

    def __init__(self, depth, value):
        self.value = value
        self.left = Node(depth - 1, 2 * value) if depth else None
        self.right = Node(depth - 1, 2 * value + 1) if depth else None

    def total(self):
        return self.value + (self.left.total() + self.right.total() if self.left else 0)


def primes(end):
    sieve = bytearray([1]) * end
    for i in range(2, int(end ** 0.5) + 1):
        if sieve[i]:
            sieve[i * i::i] = bytes(len(range(i * i, end, i)))
    return [i for i in range(2, end) if sieve[i]]


def words(seed, count):
    for _ in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        yield "w%x" % (seed >> 50)


def bodies(steps):
    state = [[0.0, 0.0, 1.0, 10.0], [3.0, 1.0, -0.5, 1.0], [-2.0, 4.0, 0.2, 2.0]]
    speed = [[0.0, 0.1, 0.0], [0.2, 0.0, 0.1], [0.0, -0.1, 0.3]]
    for _ in range(steps):
        for i, a in enumerate(state):
            for j, b in enumerate(state):
                if i != j:
                    d = [b[k] - a[k] for k in range(3)]
                    r = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + 0.01) ** 1.5
                    for k in range(3):
                        speed[i][k] += d[k] * b[3] / r * 0.001
        for a, v in zip(state, speed):
            for k in range(3):
                a[k] += v[k] * 0.001
    return sum(sum(a) for a in state)


def main(rounds):
    for number in range(rounds):
        counts = {}
        for word in words(number, 60000):
            counts[word] = counts.get(word, 0) + 1
        best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
        text = ",".join(word for word, _ in best)
        tree = Node(12, 1).total()
        found = primes(60000)
        print(number, text.upper(), tree, len(found), sum(found), "%.9f" % bodies(900))


main(int(sys.argv[1]))
