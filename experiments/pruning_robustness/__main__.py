"""python -m experiments.pruning_robustness"""

from experiments import program
from experiments.pruning_robustness import driver

if __name__ == "__main__":
    program.run(driver.main, driver.FLAGS, driver.__doc__, driver.PRESETS)
