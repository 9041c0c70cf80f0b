// A program that makes one launch: kernel and arguments from a file, memory after the launch to another. Every argument
// lies in a block of memory of exactly its size, so that AddressSanitizer sees the first byte beyond it.
#pragma once
#include "host_shim.cuh"

namespace shim {

inline int64_t read_number(FILE *file)
{
    int64_t number = 0;
    if (fread(&number, sizeof number, 1, file) != 1) throw Fault{"the file of the launch ends too early"};
    return number;
}

struct Argument {
    bool is_memory = false;
    size_t bytes = 0;
    std::unique_ptr<char[]> content;
    void *address = nullptr;
};

inline Argument read_argument(FILE *file)
{
    Argument argument;
    argument.is_memory = read_number(file) != 0;
    argument.bytes = (size_t)read_number(file);
    argument.content.reset(new char[argument.bytes]);
    argument.address = argument.content.get();
    if (fread(argument.address, 1, argument.bytes, file) != argument.bytes)
        throw Fault{"the file of the launch ends too early"};
    return argument;
}

inline void run_file(const char *in_path, const char *out_path)
{
    FILE *in = fopen(in_path, "rb");
    if (!in) throw Fault{std::string("cannot read ") + in_path};
    std::string name((size_t)read_number(in), ' ');
    if (fread(&name[0], 1, name.size(), in) != name.size()) throw Fault{"the file of the launch ends too early"};
    const unsigned grid[3] = {(unsigned)read_number(in), (unsigned)read_number(in), (unsigned)read_number(in)};
    const unsigned threads = (unsigned)read_number(in);
    const int backwards = (int)read_number(in);
    std::vector<Argument> arguments((size_t)read_number(in));
    for (Argument &argument : arguments) argument = read_argument(in);
    fclose(in);

    std::vector<void *> values;
    for (Argument &argument : arguments) values.push_back(argument.is_memory ? &argument.address : argument.address);
    char message[512];
    if (shim_launch(name.c_str(), grid, threads, backwards, values.data(), message, sizeof message))
        throw Fault{message};

    FILE *out = fopen(out_path, "wb");
    if (!out) throw Fault{std::string("cannot write ") + out_path};
    for (const Argument &argument : arguments)
        if (argument.is_memory) fwrite(argument.content.get(), 1, argument.bytes, out);
    fclose(out);
}

} // namespace shim

int main(int count, char **words)
{
    try {
        if (count != 3) throw shim::Fault{"usage: runner LAUNCH RESULT"};
        shim::run_file(words[1], words[2]);
        return 0;
    } catch (const shim::Fault &fault) {
        fprintf(stderr, "%s\n", fault.message.c_str());
        return 1;
    }
}
