/* binary-trees with malloc and free: the same trees, in the same order, as src/workloads/binary_trees.rs.
   Prints the number of nodes. */
#include <stdio.h>
#include <stdlib.h>

struct node {
    struct node *left, *right;
};

static struct node *make(long depth) {
    struct node *tree = malloc(sizeof *tree);
    if (!tree) abort();
    tree->left = depth ? make(depth - 1) : NULL;
    tree->right = depth ? make(depth - 1) : NULL;
    return tree;
}

static long check(const struct node *tree) {
    return tree->left ? check(tree->left) + check(tree->right) + 1 : 1;
}

static void destroy(struct node *tree) {
    if (tree->left) {
        destroy(tree->left);
        destroy(tree->right);
    }
    free(tree);
}

static long make_check_destroy(long depth) {
    struct node *tree = make(depth);
    long nodes = check(tree);
    destroy(tree);
    return nodes;
}

int main(int argc, char **argv) {
    long max_depth = argc > 1 ? atol(argv[1]) : 18;
    long nodes = make_check_destroy(max_depth + 1);
    struct node *long_lived = make(max_depth);
    for (long depth = 4; depth <= max_depth; depth += 2)
        for (long tree = 0; tree < 1L << (max_depth - depth + 4); tree++)
            nodes += make_check_destroy(depth);
    nodes += check(long_lived);
    destroy(long_lived);
    printf("%ld\n", nodes);
    return 0;
}
