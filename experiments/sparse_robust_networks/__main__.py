"""python -m experiments.sparse_robust_networks"""

from experiments import program
from experiments.sparse_robust_networks import driver

if __name__ == "__main__":
    program.run(driver.main, driver.FLAGS, driver.__doc__, driver.PRESETS)
